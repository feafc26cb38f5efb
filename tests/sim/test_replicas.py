"""Replicas without objects give what lanes give, and what an event for every hop gives."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cluster import Churn, Cluster, Node
from planner.core.outcomes import Outcomes
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.request import Request
from planner.core.workload import Closed, Constant, Fixed, Lognormal, Poisson, Workload
from planner.sim import replicas
from planner.sim.invariants import violations
from planner.sim.run import Run
from planner.sim.simulate import simulate
from tests.core.world import CARD, device, engine, link, model, problem
from tests.sim.test_exact import LAYERS, SLACK_S, check_equal

Scene = tuple[Problem, Plan, int]


@st.composite
def scenes(draw: st.DrawFn, jitter: bool = False, crowded: bool = False) -> Scene:
    """Pipelines of vLLM's rules on nodes that stay, to which requests come at their own times.

    Where it is crowded, to little cache, so that most scenes see somebody preempted.
    """
    cuts = draw(st.lists(st.sets(st.integers(1, LAYERS - 1), max_size=1), min_size=1, max_size=4))
    names = [f"n{index}" for index in range(sum(len(one) + 1 for one in cuts))]
    chips = [
        device(f"chip{index}", memory_bandwidth=draw(st.floats(1e8, 1e9)), tdp=300, idle=30)
        for index in range(len(names))
    ]
    nodes = [
        Node.model_validate({"id": name, "device": chip.id, "price": 1.0, "electricity": 1e-6})
        for name, chip in zip(names, chips, strict=True)
    ]
    block = draw(st.sampled_from([1, 4, 16]))
    rate = 100.0 if crowded else draw(st.sampled_from([3.0, 30.0, 100.0]))
    window = {
        "sliding_window": draw(st.integers(2, 60)),
        "layer_types": ("sliding_attention", "full_attention") * (LAYERS // 2),
    }
    way = link(
        one_way_latency=draw(st.floats(1e-4, 0.02)),
        bandwidth=draw(st.floats(1e5, 1e8)),
        egress=1e-9,
        initial_window=draw(st.sampled_from([None, 3e3])),
        jitter=draw(st.floats(1e-5, 1e-3)) if jitter else 0.0,
    )
    world = problem(
        nodes=nodes,
        links=[way],
        devices=chips,
        model=model(num_hidden_layers=LAYERS, **(window if draw(st.booleans()) else {})),
        engine=engine(
            coordinator_step=draw(st.sampled_from([0, 2e-4])) if len(cuts) == 1 else 0,
            scheduler="vllm",
            max_num_batched_tokens=draw(st.sampled_from([16, 64, 2048])),
            kv_block_tokens=block,
            prefix_cache=draw(st.booleans()),
            prefill_chunk=draw(st.sampled_from([None, 7, 40])),
            kv_skew=draw(st.sampled_from([0.0, 0.2])),
        ),
        serving=Serving(
            kv_blocks=draw(st.sampled_from([352, 400] if crowded else [360, 9000])) // block
        ),
        workload=Workload(
            arrivals=draw(
                st.sampled_from(
                    [Poisson(kind="poisson", rate=rate), Constant(kind="constant", rate=rate)]
                )
            ),
            prompt=Lognormal(kind="lognormal", median_tokens=50, sigma=0.8, max_tokens=200),
            output=Lognormal(kind="lognormal", median_tokens=20, sigma=0.8, max_tokens=150),
            requests=draw(st.integers(30, 60) if crowded else st.integers(1, 30)),
            warmup_requests=draw(st.sampled_from([0, 3])),
        ),
    )
    pipelines, left = [], iter(names)
    for cut in cuts:
        stages = tuple(
            Stage(node=next(left), start=start, stop=stop, quant="bf16")
            for start, stop in pairwise([0, *sorted(cut), LAYERS])
        )
        weight = draw(st.sampled_from([1.0, 2.0]))
        seats = draw(st.integers(6, 12) if crowded else st.integers(1, 12))
        pipelines.append(Pipeline(stages=stages, max_num_seqs=seats, weight=weight))
    return world, Plan(pipelines=tuple(pipelines)), draw(st.integers(0, 99))


def watched(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How runs were served."""
    seen: Counter[str] = Counter()
    known, lanes = replicas.served, Run.replay

    def served(run: Run, requests: Sequence[Request]) -> Outcomes:
        seen["served"] += 1
        return known(run, requests)

    def replay(run: Run, requests: Sequence[Request], concurrency: int | None) -> None:
        seen["lanes"] += 1
        lanes(run, requests, concurrency)

    monkeypatch.setattr("planner.sim.simulate.served", served)
    monkeypatch.setattr(Run, "replay", replay)
    return seen


def compare(monkeypatch: pytest.MonkeyPatch, examples: int, crowded: bool = False) -> Counter[str]:
    """Compares scenes with exact steps; what happened in all of them."""
    seen, happened = watched(monkeypatch), Counter[str]()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(scenes(crowded=crowded))
    def look(scene: Scene) -> None:
        world, plan, seed = scene
        mine = simulate(world, plan, seed)
        exact = simulate(world, plan, seed, exact_steps=True)
        check_equal(mine, exact)
        assert mine.records.begun_s == pytest.approx(exact.records.begun_s, abs=SLACK_S)
        assert mine.prefix_tokens == exact.prefix_tokens
        if exact.metrics.mean_itl_ms is not None:
            assert mine.metrics.mean_itl_ms == pytest.approx(exact.metrics.mean_itl_ms)
        assert violations(mine, plan, world.workload.requests) == []
        preempted = mine.events["preemptions"]
        happened.update(
            scenes=1, crowded=preempted > 0, preempted=preempted, reused=mine.prefix_tokens[1]
        )

    look()
    assert seen == {"served": happened["scenes"], "lanes": happened["scenes"]}
    return happened


def test_replicas_equal_exact_steps_in_a_few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, 30)


def test_replicas_equal_exact_steps_where_blocks_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is preempted, computed anew, and finds some of it in the cache."""
    happened = compare(monkeypatch, 20, crowded=True)
    assert happened["crowded"] >= happened["scenes"] / 2
    assert happened["preempted"] >= 5 * happened["scenes"]
    assert happened["reused"]


@pytest.mark.slow
def test_replicas_equal_exact_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    compare(monkeypatch, 80)


def test_who_came_last_begins_anew_where_blocks_run_out() -> None:
    """Three answers of 40 tokens outgrow 11 blocks that hold their prompts, two do not."""
    stage = Stage(node="a", start=0, stop=4, quant="bf16")
    for seats in (2, 3):
        world = problem(
            engine=engine(scheduler="vllm", coordinator_step=0, kv_block_tokens=16),
            serving=Serving(kv_blocks=11),
            workload=Workload(
                arrivals=Constant(kind="constant", rate=1000.0),
                prompt=Fixed(tokens=40),
                output=Fixed(tokens=40),
                requests=6,
            ),
        )
        plan = Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=seats),))
        mine, exact = simulate(world, plan), simulate(world, plan, exact_steps=True)
        check_equal(mine, exact)
        assert (mine.events["preemptions"] > 0) == (seats == 3)


@settings(max_examples=25, deadline=None)
@given(st.booleans().flatmap(lambda crowded: scenes(jitter=True, crowded=crowded)))
def test_replicas_draw_what_lanes_draw(scene: Scene) -> None:
    """Where latencies vary, too: watched runs are those of lanes."""
    world, plan, seed = scene
    mine, lanes = simulate(world, plan, seed), simulate(world, plan, seed, check=True)
    check_equal(mine, lanes)
    assert mine.event_count == lanes.event_count
    for name in ("begun_s", "first_s", "last_s"):
        ours, theirs = getattr(mine.records, name), getattr(lanes.records, name)
        assert ours == pytest.approx(theirs, abs=1e-9)
    for name, value in lanes.metrics:
        if value is not None:
            assert getattr(mine.metrics, name) == pytest.approx(value, rel=2e-3), name


def test_only_simple_runs_are_served_by_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    ahead = Churn.model_validate(
        {"id": "spot", "distribution": "exponential", "up_scale": 9, "down_scale": 1} | CARD
    )

    def world(**changes: object) -> Problem:
        return problem(
            engine=engine(scheduler=changes.pop("scheduler", "vllm"), coordinator_step=0),
            workload=Workload.model_validate(
                {
                    "arrivals": Poisson(kind="poisson", rate=1.0),
                    "prompt": Fixed(tokens=10),
                    "output": Fixed(tokens=5),
                    "requests": 4,
                }
                | changes
            ),
        )

    def plan(groups: int = 1) -> Plan:
        stage = Stage(node="a", start=0, stop=4, quant="bf16")
        return Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=4, micro_batches=groups),))

    simulate(world(), plan())
    assert seen == {"served": 1}
    restless = world()
    nodes = [Node(id=one, device="chip", churn="spot") for one in "ab"]
    cluster = Cluster.model_validate(
        dict(restless.cluster) | {"churn": (ahead,), "nodes": tuple(nodes)}
    )
    turns = {"mean_turns": 2.0, "max_tokens": 500}
    for other, groups in (
        (world(scheduler="runtime"), 1),
        (world(arrivals=Closed(kind="closed", concurrency=2)), 1),
        (world(horizon=2.0), 1),
        (world(sessions=turns), 1),
        (world(), 2),
        (restless.model_copy(update={"cluster": cluster}), 1),
    ):
        simulate(other, plan(groups))
    assert seen == {"served": 1, "lanes": 6}


def test_a_request_takes_the_memory_of_a_few_numbers() -> None:
    """What is asked and what becomes of it: 12 columns of 8 bytes, and what is derived from them.

    Warm-up requests have no gaps between tokens, of which 20,000 rows are kept whatever comes.
    """
    stage = Stage(node="a", start=0, stop=4, quant="bf16")
    plan = Plan(pipelines=(Pipeline(stages=(stage,), max_num_seqs=8),))

    def peak_bytes(count: int) -> int:
        world = problem(
            engine=engine(scheduler="vllm", coordinator_step=0),
            workload=Workload(
                arrivals=Poisson(kind="poisson", rate=1.0),
                prompt=Lognormal(kind="lognormal", median_tokens=50, sigma=0.8, max_tokens=200),
                output=Lognormal(kind="lognormal", median_tokens=20, sigma=0.8, max_tokens=150),
                requests=count,
                warmup_requests=count - 1,
            ),
        )
        tracemalloc.start()
        try:
            simulate(world, plan)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(1)  # what is imported and remembered once
    assert peak_bytes(3000) - peak_bytes(1000) < 2000 * 150
