"""No plan, whoever stands by in it, is better than the bound where nodes come and go."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Readiness, Stage, Standby
from planner.core.problem import Problem, Serving
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Poisson, Workload
from planner.plan import exact
from planner.plan.choices import seats_to_try
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import overfull
from planner.plan.solve import solve
from tests.core.world import device, engine, link
from tests.sim.test_churn import churn, restless

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
WEIGHTS = {"goodput": 30.0, "usd_per_hour": 1.0, "tpot": 0.1}
ASKED: tuple[Mapping[str, Any], ...] = (
    {"objective": "goodput"},
    {"objective": "goodput", "must_have": {"usd_per_hour": 3.5}},
    {"objective": "goodput", "must_have": {"mean_ttft": "1 s", "max_nodes": 3}},
    {"objective": "usd_per_million_output_tokens"},
    {"objective": "usd_per_million_output_tokens", "must_have": {"availability": 0.7}},
    {"objective": "weighted", "nice_to_have": WEIGHTS},
    {"objective": "tpot", "must_have": {"usd_per_million_output_tokens": 25.0}},
    {"objective": "usd_per_hour", "must_have": {"request_goodput": 1.5}},
)
STATES: tuple[Readiness, ...] = ("hot", "warm", "cold")


@st.composite
def worlds(draw: st.DrawFn, least: int = 3, most: int = 4) -> Problem:
    """Three or four nodes that differ in everything that losses depend on."""
    profiles = churn("often"), churn("seldom", up_scale=900.0, down_scale=60.0)

    def node(name: str) -> Node:
        return Node(
            id=name,
            device=draw(st.sampled_from(["chip", "chip", "small"])),
            churn=draw(st.sampled_from([None, "often", "often", "seldom"])),
            zone=draw(st.sampled_from(["", "", "x"])),
            trust=draw(st.sampled_from(["own", "rented"])),
            usd_per_hour=draw(st.sampled_from([0.0, 0.5, 1.0])),
        )

    arrivals = draw(
        st.sampled_from(
            [
                Closed(kind="closed", concurrency=2),
                Closed(kind="closed", concurrency=4),
                Poisson(kind="poisson", rate=1.0),
                Poisson(kind="poisson", rate=6.0),
            ]
        )
    )
    ways = [link(bandwidth=draw(st.sampled_from([3e4, 3e5])))]
    ways.append(link("home", "c", bandwidth=1e4, usd_per_byte=draw(st.sampled_from([0.0, 1e-6]))))
    loads = {"load": draw(st.sampled_from([0.0, 3.0])), "load_rate": 1e6}
    return restless(
        *profiles,
        nodes=[Node(id="home"), *map(node, "abcd"[: draw(st.integers(least, most))])],
        devices=[device(), device("small", memory=3.5e5)],
        links=ways,
        engine=engine(**loads),
        serving=Serving(detect_s=0.5, patience_s=draw(st.sampled_from([5.0, 120.0]))),
        requirements=Requirements.model_validate(draw(st.sampled_from(ASKED))),
        workload=Workload(arrivals=arrivals, prompt=Fixed(tokens=100), output=Fixed(tokens=10)),
    )


@st.composite
def plans(draw: st.DrawFn, world: Problem) -> Plan | None:
    """Any plan: pipelines of up to three nodes, and standbys in any order and state."""
    names = list(draw(st.permutations([node.id for node in world.cluster.workers])))
    seats = draw(st.sampled_from([1, 2, 4]))
    pipelines, spare = list[Pipeline](), names
    for _ in range(draw(st.integers(1, 2))):
        count = min(draw(st.integers(1, 2)), len(spare))
        if not count:
            break
        mine, spare = spare[:count], spare[count:]
        cuts = sorted(draw(st.permutations([1, 2, 3]))[: count - 1])
        ends = (0, *cuts, 4)
        stages = tuple(
            Stage(node=name, start=start, stop=stop, quant="bf16")
            for name, (start, stop) in zip(mine, itertools.pairwise(ends), strict=True)
        )
        pipelines.append(Pipeline(stages=stages, max_num_seqs=seats))
    standbys = list[Standby]()
    for name in spare:
        index = draw(st.integers(-1, len(pipelines) - 1))
        if index < 0:
            continue
        hot = draw(st.integers(-1, len(pipelines[index].stages) - 1))
        for stage in range(len(pipelines[index].stages)):
            state = "hot" if stage == hot else draw(st.sampled_from([None, "warm", "cold"]))
            if state is not None:
                standbys.append(Standby(node=name, pipeline=index, stage=stage, state=state))
    plan = Plan(pipelines=tuple(pipelines), standbys=tuple(draw(st.permutations(standbys))))
    return None if overfull(world, plan) else plan


def cost_of(world: Problem, plan: Plan) -> float | None:
    """What a plan costs; None where it breaks a must-have."""
    must, prediction = world.requirements.must_have, predict(world, plan)
    nodes = {*plan.nodes, *(one.node for one in plan.standbys)}
    if not admissible(world, plan, prediction) or len(nodes) > (must.max_nodes or len(nodes)):
        return None
    value = objective_value(world, prediction.metrics)
    return None if value is None else as_cost(world, value)


def check(world: Problem, tried: Sequence[Plan | None], states: int) -> None:
    """Searched exactly where there are that few multisets of nodes."""
    try:
        with mock.patch.object(exact, "STATES", states):
            solution = solve(world, equal_weights=True)
    except NoPlanError:
        return
    bound, found = as_cost(world, solution.bound), as_cost(world, solution.value)
    assert cost_of(world, solution.plan) == pytest.approx(found, rel=1e-9)
    for plan in tried:
        if plan is None:
            continue
        asked = seats_to_try(world, len(plan.pipelines))
        if world.workload.concurrency is not None:
            asked = asked[:1]  # fewer seats than users are looked at where more find no room
        if plan.pipelines[0].max_num_seqs not in asked:
            continue  # the bound is one over the numbers of seats that are tried
        cost = cost_of(world, plan)
        assert cost is None or cost >= bound - 1e-9 * max(1.0, abs(bound)), (cost, bound, plan)


@settings(RELAXED, max_examples=3)
@given(st.data())
def test_no_plan_is_better_than_the_bound(data: st.DataObject) -> None:
    world = data.draw(worlds())
    check(world, [data.draw(plans(world)) for _ in range(40)], exact.STATES)


@settings(RELAXED, max_examples=3)
@given(st.data())
def test_no_plan_is_better_than_the_bound_of_chains(data: st.DataObject) -> None:
    world = data.draw(worlds())
    check(world, [data.draw(plans(world)) for _ in range(40)], 1)


@pytest.mark.slow
@settings(RELAXED, max_examples=12)
@given(st.data())
def test_no_plan_is_better_than_the_bound_many_times(data: st.DataObject) -> None:
    world = data.draw(worlds())
    check(
        world, [data.draw(plans(world)) for _ in range(60)], data.draw(st.sampled_from([1, 1024]))
    )
