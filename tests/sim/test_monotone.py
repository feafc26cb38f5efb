"""What everybody knows of queues without computing anything: less load, no longer waits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.cost import Batch, traverse
from planner.core.metrics import usd_per_million
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.request import mean_rate, paced
from planner.core.workload import Fixed, Lengths, Lognormal, Poisson, Workload
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, problem

LAYERS = 4


def lengths(most: int) -> st.SearchStrategy[Lengths]:
    """All alike, or few long among many short."""
    drawn = Lognormal(kind="lognormal", median_tokens=most / 4, sigma=0.8, max_tokens=most)
    return st.sampled_from([Fixed(tokens=most), drawn])


@st.composite
def scenes(draw: st.DrawFn, seats: int) -> tuple[Problem, Plan]:
    """One pipeline of one to three stages under requests that come as they like."""
    cuts = sorted(draw(st.sets(st.integers(1, LAYERS - 1), max_size=2)))
    ends = [0, *cuts, LAYERS]
    chips = [
        device(f"chip{index}", memory_bandwidth=draw(st.floats(1e8, 1e10)))
        for index in range(len(ends) - 1)
    ]
    nodes = [Node(id=f"n{i}", device=chip.id, price=0.5) for i, chip in enumerate(chips)]
    world = problem(
        nodes=nodes,
        devices=chips,
        links=[link(one_way_latency=draw(st.floats(0, 0.02)), bandwidth=1e6)],
        engine=engine(scheduler=draw(st.sampled_from(["runtime", "vllm"]))),
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=draw(st.floats(0.5, 20))),
            prompt=draw(lengths(200)),
            output=draw(lengths(40)),
            requests=60,
        ),
    )
    stages = tuple(
        Stage(node=node.id, start=ends[i], stop=ends[i + 1], quant="bf16")
        for i, node in enumerate(nodes)
    )
    return world, Plan(pipelines=(Pipeline(stages=stages, max_num_seqs=seats),))


@settings(max_examples=25, deadline=None)
@given(scenes(seats=1), st.floats(0.05, 1))
def test_the_same_requests_further_apart_are_answered_no_later(
    made: tuple[Problem, Plan], share: float
) -> None:
    """With a single seat each of them, by Lindley's recursion."""
    world, plan = made
    requests = world.workload.sample(0)
    rarer = paced(requests, share * mean_rate(requests))
    often = {one.id: one.e2el_s for one in simulate(world, plan, 0, requests).records}
    for one in simulate(world, plan, 0, rarer).records:
        assert one.e2el_s <= often[one.id] + 1e-9


@settings(max_examples=25, deadline=None)
@given(scenes(seats=8), st.sampled_from([0.5, 0.1]))
def test_a_lower_load_raises_no_percentile(made: tuple[Problem, Plan], share: float) -> None:
    """But for the prompt or the step of others that happens to be under way."""
    world, plan = made
    lighter = world.model_copy(
        update={"workload": world.workload.under(share * world.workload.load)}
    )
    most = world.workload.prompt.max_tokens
    under_way_s = traverse(world, plan.pipelines[0], Batch.prefill(most)).total_s
    under_way_s += traverse(world, plan.pipelines[0], Batch.decode(8, 8.0 * 240)).total_s
    before, after = (simulate(one, plan, 3).metrics for one in (world, lighter))
    for name in ("mean_ttft_ms", "p95_ttft_ms", "p99_ttft_ms", "p99_e2el_ms"):
        assert getattr(after, name) <= getattr(before, name) + 1e3 * under_way_s, name
    assert after.output_throughput <= before.output_throughput * (1 + 1e-9)
    for one in (before, after):
        assert one.usd_per_million_output_tokens == pytest.approx(
            usd_per_million(one.usd_per_hour, one.output_throughput), rel=1e-9
        )


@settings(max_examples=25, deadline=None)
@given(scenes(seats=1), st.sampled_from(["memory_bytes_per_s", "one_way_latency_s"]))
def test_faster_machines_and_nearer_ones_answer_nobody_later(
    made: tuple[Problem, Plan], what: str
) -> None:
    world, plan = made
    cluster = world.cluster
    if what == "memory_bytes_per_s":
        quicker = [
            one.model_copy(update={what: 2 * one.memory_bytes_per_s}) for one in cluster.devices
        ]
        changed = cluster.model_copy(update={"devices": tuple(quicker)})
    else:
        nearer = [one.model_copy(update={what: one.one_way_latency_s / 2}) for one in cluster.links]
        changed = cluster.model_copy(update={"links": tuple(nearer)})
    better = world.model_copy(update={"cluster": type(cluster).model_validate(dict(changed))})
    before = {one.id: one.e2el_s for one in simulate(world, plan, 1).records}
    for one in simulate(better, plan, 1).records:
        assert one.e2el_s <= before[one.id] + 1e-9
