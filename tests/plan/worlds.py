"""Random small clusters for comparing the search with brute force."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from planner.core.cluster import Link, Node
from planner.core.problem import Problem, Serving
from planner.core.requirements import OBJECTIVES, MustHave, Requirements, Wish
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Workload
from tests.core.world import device, engine, link, model, problem, quant


@st.composite
def problems(draw: st.DrawFn, bounds: bool = False) -> Problem:
    """Up to four nodes of up to three kinds, up to five unlike layers (four nodes: three)."""
    kinds = [
        device(
            f"chip-{index}",
            memory=draw(st.sampled_from([0.25e6, 0.5e6, 0.9e6, 3e6])),
            memory_bandwidth=draw(st.sampled_from([0.5e9, 1e9, 4e9])),
            compute={"bf16": draw(st.sampled_from([1e9, 20e9]))},
        )
        for index in range(draw(st.integers(1, 3)))
    ]
    nodes = [
        Node(
            id=f"n{index}",
            device=draw(st.sampled_from(kinds)).id,
            region=draw(st.sampled_from(["eu", "us"])),
            price=draw(st.sampled_from([0.0, 0.5, 2.0])),
            count=draw(st.sampled_from([1, 1, 1, 2])),
            trust=draw(st.sampled_from(["own", "rented", "unknown"])),
        )
        for index in range(draw(st.integers(1, 4)))
    ]
    layers = draw(st.integers(1, 5 if len(nodes) < 4 else 3))
    shape: dict[str, Any] = {"num_hidden_layers": layers}
    if draw(st.booleans()):
        shape |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        shape |= {"first_k_dense_replace": draw(st.integers(0, layers))}
    schemes = [quant()]
    if draw(st.booleans()):
        wire = draw(st.sampled_from([16, 8]))
        schemes.append(quant("q4", weight_bits=4.5, wire_bits=wire, lossless=False))
    objective = draw(st.sampled_from([*sorted(OBJECTIVES), "weighted"]))
    requirements = Requirements(
        objective=objective,
        must_have=draw(must_haves()) if bounds else MustHave(),
        nice_to_have=draw(weights()) if objective == "weighted" else {},
    )
    paced = any(term.endswith("tpot") for term in requirements.terms)
    drafts = Speculation(draft_tokens=2, acceptance=0.6, draft_token=1e-3)
    return problem(
        nodes=nodes,
        links=draw(links(nodes)),
        devices=kinds,
        model=model(**shape),
        quants=tuple(schemes),
        engine=engine(
            kv_block_tokens=1,
            other_splits=("layer",) if len(nodes) < 4 and draw(st.booleans()) else (),
            prefill_chunk=draw(st.sampled_from([None, 16])),
            chunks_at_once=draw(st.sampled_from([None, 1])),
            launches=draw(st.sampled_from([None, 700])),
        ),
        requirements=requirements,
        serving=Serving(
            return_path=draw(st.sampled_from(["direct", "direct", "relayed", "star"])),
            speculation=draw(st.sampled_from([None, None, drafts])),
            mixed_quants=len(nodes) < 3 and draw(st.booleans()),
        ),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=draw(st.integers(1, 4))),
            prompt=Fixed(tokens=draw(st.sampled_from([1, 40]))),
            output=Fixed(tokens=draw(st.sampled_from([2, 9] if paced else [1, 2, 9]))),
        ),
    )


ADDITIVE: tuple[Wish, ...] = ("tpot", "ttft", "e2el", "throughput", "usd_per_hour")
"""Wishes of which pipelines side by side bring sums or means."""


def weights() -> st.SearchStrategy[dict[Wish, float]]:
    """One to four wishes with what a unit of each is worth."""
    worth = st.sampled_from([0.01, 0.3, 1.0, 20.0])
    return st.dictionaries(st.sampled_from(ADDITIVE), worth, min_size=1, max_size=4)


@st.composite
def links(draw: st.DrawFn, nodes: list[Node]) -> list[Link]:
    """One link for all, or asymmetric ones of which some may be missing."""
    if draw(st.booleans()):
        return [link()]
    made = []
    for src in nodes:
        for dst in nodes:
            if src is not dst and draw(st.integers(0, 9)):
                latency = draw(st.sampled_from([1e-4, 5e-3, 0.03]))
                rate = draw(st.sampled_from([1e5, 1e7]))
                window = draw(st.sampled_from([None, 2e3]))
                made.append(
                    link(
                        src.id,
                        dst.id,
                        one_way_latency=latency,
                        bandwidth=rate,
                        initial_window=window,
                    )
                )
    return made or [link()]


@st.composite
def must_haves(draw: st.DrawFn) -> MustHave:
    """One or two bounds that sometimes bind."""
    given: dict[str, Any] = {}
    choices = {
        "p95_ttft": st.sampled_from([0.02, 0.1, 0.5]),
        "mean_tpot": st.sampled_from([0.005, 0.02, 0.05]),
        "mean_e2el": st.sampled_from([0.1, 0.5, 2.0]),
        "usd_per_hour": st.sampled_from([0.5, 1.0, 2.5]),
        "quality": st.just(0.99),
        "regions": st.just(("eu",)),
        "max_nodes": st.integers(1, 3),
        "trust": st.sampled_from(["own", "rented"]),
    }
    for name in draw(st.lists(st.sampled_from(sorted(choices)), max_size=2, unique=True)):
        given[name] = draw(choices[name])
    return MustHave.model_validate(given)
