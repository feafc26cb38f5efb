"""Steps that are coalesced give what an event for every hop gives."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cluster import Churn, Cluster, Node
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.problem import Problem, Serving
from planner.core.sessions import Sessions
from planner.core.workload import Closed, Lognormal, Poisson, Workload
from planner.sim.invariants import violations
from planner.sim.result import SimResult
from planner.sim.rounds import RoundLane
from planner.sim.row import Row
from planner.sim.rows import RowLane
from planner.sim.simulate import simulate
from tests.core.world import CARD, device, engine, link, model, problem

LAYERS = 6
MAINTENANCE = {"start": 0.7, "length": 0.4, "every": 2.5}
SLACK_S = 1e-9


def conversations() -> st.SearchStrategy[Sessions]:
    """Users who come back."""
    return st.builds(
        Sessions,
        mean_turns=st.floats(1, 6),
        turns=st.sampled_from(["geometric", "fixed"]),
        think_s=st.sampled_from([0.0, 0.5]),
        max_tokens=st.integers(350, 600),
    )


@st.composite
def scenes(draw: st.DrawFn, rows: bool = False) -> tuple[Problem, Plan, int]:
    """Pipelines over unlike nodes that may come and go, under some workload.

    With ``rows`` every pipeline has one group and lines of its own, and requests come at any time.
    """
    cuts = draw(st.lists(st.sets(st.integers(1, LAYERS - 1), max_size=2), min_size=1, max_size=3))
    names = [f"n{index}" for index in range(sum(len(one) + 1 for one in cuts) + 1)]
    restless = draw(st.booleans())
    churn = Churn.model_validate(
        {
            "id": "restless",
            "distribution": "exponential",
            "up_scale": draw(st.floats(0.5, 10)),
            "down_scale": draw(st.floats(0.1, 5)),
            "notice": draw(st.sampled_from([0.0, 0.0, 0.5, 3.0])),
            "dud": draw(st.sampled_from([0.0, 0.5])),
            "dud_after": 0.3,
            "maintenance": draw(st.sampled_from([(), (MAINTENANCE,)])),
        }
        | CARD
    )
    chips = [
        device(f"chip{index}", memory_bandwidth=draw(st.floats(1e8, 1e9)), tdp=300, idle=30)
        for index in range(len(names))
    ]
    start_up = draw(st.sampled_from([0.0, 0.2]))
    uplink = draw(st.sampled_from([None] if rows else [None, None, 2e5]))
    downlink = draw(st.sampled_from([None] if rows else [None, None, 3e5]))
    nodes = [
        Node(
            id=name,
            device=chip.id,
            churn="restless" if restless else None,
            trust=draw(st.sampled_from(["own", "rented"])),
            price=1.0,
            electricity=1e-6,
            start_up=start_up,
            uplink=uplink,
            downlink=downlink,
        )
        for name, chip in zip(names, chips, strict=True)
    ]
    way = link(
        one_way_latency=draw(st.floats(0, 0.02)),
        bandwidth=draw(st.floats(1e5, 1e8)),
        egress=1e-9,
        initial_window=draw(st.sampled_from([None, 3e3])),
    )
    rate = draw(st.sampled_from([3.0, 10.0, 30.0] if rows else [None, 3.0, 30.0]))
    block = draw(st.sampled_from([1, 4, 16]))
    windows = {
        "sliding_window": draw(st.integers(2, 60)),
        "layer_types": ("sliding_attention", "full_attention") * (LAYERS // 2),
    }
    world = problem(
        nodes=nodes,
        links=[way],
        devices=chips,
        model=model(num_hidden_layers=LAYERS, **(windows if draw(st.booleans()) else {})),
        engine=engine(
            coordinator_step=draw(st.sampled_from([0, 2e-4])),
            scheduler=draw(st.sampled_from(["runtime", "vllm"])),
            max_num_batched_tokens=draw(st.sampled_from([16, 64, 2048])),
            kv_block_tokens=block,
            prefix_cache=draw(st.booleans()),
            prefill_chunk=draw(st.sampled_from([None, 7, 40])),
            kv_skew=draw(st.sampled_from([0.0, 0.2])),
        ),
        serving=Serving(
            return_path=draw(st.sampled_from(["direct", "relayed", "star"])),
            sticky_sessions=draw(st.booleans()),
            detect_s=draw(st.sampled_from([0.0, 0.3])),
            patience_s=draw(st.sampled_from([0.5, 30.0])),
            kv_blocks=draw(st.integers(300, 900)) // block,
        ),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=rate)
            if rate
            else Closed(kind="closed", concurrency=draw(st.integers(1, 6))),
            prompt=Lognormal(kind="lognormal", median_tokens=30, sigma=0.8, max_tokens=200),
            output=Lognormal(kind="lognormal", median_tokens=20, sigma=0.8, max_tokens=150),
            sessions=draw(st.none() | conversations()),
            requests=draw(st.integers(1, 25)),
            warmup_requests=draw(st.sampled_from([0, 3])),
            horizon_s=draw(st.sampled_from([None, None, 1.234])),
        ),
    )
    cluster = Cluster.model_validate(dict(world.cluster) | {"churn": (churn,)})
    world = world.model_copy(update={"cluster": cluster})
    pipelines, names_left = [], iter(names)
    for cut in cuts:
        ends = [0, *sorted(cut), LAYERS]
        stages = tuple(
            Stage(node=next(names_left), start=start, stop=stop, quant="bf16")
            for start, stop in pairwise(ends)
        )
        seats = draw(st.integers(2 if rows else 1, 5))
        groups = draw(st.integers(1, 1 if rows else min(3, seats)))
        pipelines.append(Pipeline(stages=stages, max_num_seqs=seats, micro_batches=groups))
    spare = Standby(
        node=next(names_left), pipeline=0, stage=0, state=draw(st.sampled_from(["hot", "cold"]))
    )
    plan = Plan(pipelines=tuple(pipelines), standbys=(spare,) if restless else ())
    return world, plan, draw(st.integers(0, 99))


def check_equal(coalesced: SimResult, exact: SimResult) -> None:
    close = pytest.approx
    assert len(coalesced.records) == len(exact.records)
    for mine, its in zip(coalesced.records, exact.records, strict=True):
        assert (mine.id, mine.pipeline, mine.status, mine.reason, mine.output_tokens) == (
            its.id,
            its.pipeline,
            its.status,
            its.reason,
            its.output_tokens,
        )
        assert mine.arrival_s == close(its.arrival_s, abs=SLACK_S)
        ends = [its.token_s[0], its.token_s[-1]] if its.token_s else []
        assert [*mine.token_s[:1], *mine.token_s[-1:]] == close(ends, abs=SLACK_S)
    assert coalesced.simulated_s == close(exact.simulated_s, abs=SLACK_S)
    assert coalesced.events == exact.events
    assert coalesced.most_seated == exact.most_seated
    assert coalesced.cost == close(exact.cost, rel=1e-9)
    for mine, its in (
        (coalesced.stage_busy, exact.stage_busy),
        (coalesced.link_busy, exact.link_busy),
        (coalesced.away_s, exact.away_s),
        (coalesced.starting_s, exact.starting_s),
        (coalesced.spent_s, exact.spent_s),
    ):
        assert mine == close(its, rel=1e-9, abs=1e-9)
    if coalesced.metrics.mean_e2el_ms is not None:
        assert sum(coalesced.spent_s.values()) == close(coalesced.metrics.mean_e2el_ms / 1e3)
    for mine, its in zip(coalesced.recoveries, exact.recoveries, strict=True):
        assert (mine.pipeline, mine.stage, mine.node) == (its.pipeline, its.stage, its.node)
        times = (its.lost_s, its.detected_s, its.recovered_s)
        assert (mine.lost_s, mine.detected_s, mine.recovered_s) == close(times, abs=SLACK_S)
    check_metrics(coalesced, exact)


def check_metrics(coalesced: SimResult, exact: SimResult) -> None:
    for name, its in dict(exact.metrics).items():
        mine = getattr(coalesced.metrics, name)
        if its is None:
            assert mine is None
        elif "itl" not in name:
            assert mine == pytest.approx(its, rel=1e-8), name
        elif name == "mean_itl_ms" and all(one.status == "completed" for one in exact.records):
            assert mine == pytest.approx(its, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(scenes())
def test_coalesced_steps_equal_exact_ones_in_a_few_scenes(
    scene: tuple[Problem, Plan, int],
) -> None:
    world, plan, seed = scene
    check_equal(simulate(world, plan, seed), simulate(world, plan, seed, exact_steps=True))


@settings(max_examples=15, deadline=None)
@given(scenes(rows=True))
def test_rows_equal_exact_steps_in_a_few_scenes(scene: tuple[Problem, Plan, int]) -> None:
    """Watched, so that none is served by replicas (test_replicas.py)."""
    world, plan, seed = scene
    rows = simulate(world, plan, seed, check=True)
    check_equal(rows, simulate(world, plan, seed, exact_steps=True))


def test_scenes_have_rows_that_pass_are_cut_and_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the scenes are compared for is in enough of them."""
    seen: Counter[str] = Counter()
    found: set[str] = set()

    def watched(owner: type, name: str) -> None:
        known = getattr(owner, name)

        def noted(*given: object) -> object:
            found.add(name)
            return known(*given)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in (
        (RowLane, "_pass"),
        (Row, "cut"),
        (RowLane, "_broken"),
        (RoundLane, "_fly"),
    ):
        watched(owner, name)

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(scenes(rows=True))
    def look(scene: tuple[Problem, Plan, int]) -> None:
        found.clear()
        simulate(*scene, check=True)
        seen.update(found)

    look()
    assert seen["_pass"] >= 15
    assert seen["cut"] >= 8
    assert seen["_broken"] >= 3
    assert seen["_fly"] >= 15


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(scenes())
def test_coalesced_steps_equal_exact_ones(scene: tuple[Problem, Plan, int]) -> None:
    world, plan, seed = scene
    exact = simulate(world, plan, seed, exact_steps=True, check=True)
    coalesced = simulate(world, plan, seed, check=True)
    check_equal(coalesced, exact)
    for result in (coalesced, exact):
        assert violations(result, plan, world.workload.requests) == []


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(scenes(rows=True))
def test_rows_equal_exact_steps(scene: tuple[Problem, Plan, int]) -> None:
    world, plan, seed = scene
    coalesced = simulate(world, plan, seed, check=True)
    check_equal(coalesced, simulate(world, plan, seed, exact_steps=True))
    assert violations(coalesced, plan, world.workload.requests) == []


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.0, 6.0])
def test_rows_of_steps_over_links_that_vary_are_distributed_as_single_steps(rate: float) -> None:
    """Means and high percentiles of a long run agree within a few standard errors."""
    world = problem(
        links=[link(jitter=0.004)],
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=rate),
            prompt=Lognormal(kind="lognormal", median_tokens=30, sigma=0.8, max_tokens=200),
            output=Lognormal(kind="lognormal", median_tokens=40, sigma=0.8, max_tokens=150),
            requests=1500,
        ),
    )
    stages = tuple(
        Stage(node=node, start=start, stop=start + 2, quant="bf16")
        for node, start in (("a", 0), ("b", 2))
    )
    plan = Plan(pipelines=(Pipeline(stages=stages, max_num_seqs=16),))
    rows, single = simulate(world, plan, 1), simulate(world, plan, 1, exact_steps=True)
    close = {"ttft": 0.05, "tpot": 0.01, "itl": 0.01, "e2el": 0.01}
    for latency, near in close.items():
        for statistic in ("mean", "median"):
            name = f"{statistic}_{latency}_ms"
            expected = getattr(single.metrics, name)
            assert getattr(rows.metrics, name) == pytest.approx(expected, rel=near), name
    for name in ("p95_itl_ms", "p99_itl_ms", "p95_tpot_ms", "p95_e2el_ms", "p95_ttft_ms"):
        expected = getattr(single.metrics, name)
        assert getattr(rows.metrics, name) == pytest.approx(expected, rel=0.05), name
