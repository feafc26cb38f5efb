"""Standbys: no set of nodes, stages and states serves must-haves and objective better."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Readiness, Stage, Standby
from planner.core.problem import Problem, Serving
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.standby import Scales, protected
from tests.core.world import device, engine, link
from tests.sim.test_churn import churn, restless

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

ASKED: tuple[Mapping[str, Any], ...] = (
    {"objective": "goodput"},
    {"objective": "goodput", "must_have": {"usd_per_hour": 3.2}},
    {"objective": "weighted", "nice_to_have": {"goodput": 30.0, "usd_per_hour": 1.0}},
    {"objective": "weighted", "nice_to_have": {"goodput": 5.0, "usd_per_hour": 1.0}},
    {"objective": "usd_per_million_output_tokens"},
    {"objective": "tpot", "must_have": {"availability": 0.8}},
    {"objective": "usd_per_hour", "must_have": {"request_goodput": 2.5}},
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Problem, Plan]:
    """A plan of two stages or of one stage twice, and two spare nodes of several kinds."""
    goes = st.sampled_from([None, "often", "often", "seldom"])

    def node(name: str, spare: bool) -> Node:
        return Node(
            id=name,
            device=draw(st.sampled_from(["chip", "small"])) if spare else "chip",
            churn=draw(goes),
            zone=draw(st.sampled_from(["", "", "x"])),
            trust=draw(st.sampled_from(["own", "rented"])),
            usd_per_hour=draw(st.sampled_from([0.0, 0.5, 1.0])) if spare else 1.0,
        )

    nodes = [node(name, name in "cd") for name in "abcd"]
    metered = draw(st.sampled_from([0.0, 1e-6]))
    loads = draw(st.sampled_from([0.0, 3.0]))
    return placed(nodes, draw(st.sampled_from(ASKED)), metered, loads, whole=draw(st.booleans()))


def placed(
    nodes: list[Node], asked: Mapping[str, Any], metered: float, loads: float, *, whole: bool
) -> tuple[Problem, Plan]:
    """A plan with the whole model at two nodes each, or half of it, and who may stand by."""
    world = restless(
        churn("often"),
        churn("seldom", up_scale=900.0, down_scale=60.0),
        nodes=[Node(id="home"), *nodes],
        devices=[device(), device("small", memory=3.5e5)],
        links=[link(bandwidth=3e5), link("home", "c", bandwidth=3e5, usd_per_byte=metered)],
        engine=engine(load=loads),
        serving=Serving(detect_s=0.5),
        requirements=Requirements.model_validate(asked),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=10),
        ),
    )
    if whole:
        stages = [Stage(node=name, start=0, stop=4, quant="bf16") for name in "ab"]
        return world, Plan(pipelines=tuple(Pipeline(stages=(stage,)) for stage in stages))
    halves = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    return world, Plan(pipelines=(Pipeline(stages=halves, max_num_seqs=2),))


def uses(world: Problem, plan: Plan, name: str) -> list[tuple[Standby, ...]]:
    """Every way in which a node may stand by: for one pipeline, hot for one stage at most."""
    found: list[tuple[Standby, ...]] = [()]
    states: tuple[Readiness | None, ...] = (None, "hot", "warm", "cold")
    small = world.cluster.node(name).device == "small"
    for index, pipeline in enumerate(plan.pipelines):
        for each in itertools.product(states, repeat=len(pipeline.stages)):
            if each.count("hot") > 1 or set(each) == {None}:
                continue
            if small and len(pipeline.stages) == 1:
                continue  # the whole model does not fit there
            found.append(
                tuple(
                    Standby(node=name, pipeline=index, stage=stage, state=state)
                    for stage, state in enumerate(each)
                    if state is not None
                )
            )
    return found


def every_choice(world: Problem, plan: Plan) -> Iterator[Plan]:
    """The plan with every way in which its two spare nodes may stand by, in every order at each."""
    for first, second in itertools.product(*(uses(world, plan, name) for name in "cd")):
        both = {(one.pipeline, one.stage) for one in first}
        both &= {(one.pipeline, one.stage) for one in second}
        for swapped in itertools.product((False, True), repeat=len(both)):
            later = {place for place, late in zip(sorted(both), swapped, strict=True) if late}
            ahead = [one for one in first if (one.pipeline, one.stage) not in later]
            behind = [one for one in first if (one.pipeline, one.stage) in later]
            yield plan.model_copy(update={"standbys": (*ahead, *second, *behind)})


def check(world: Problem, plan: Plan) -> None:
    scales = Scales(world, plan)
    chosen = protected(world, plan)
    short, cost, rent, *_ = scales.rank(chosen)
    best = min(scales.rank(one)[:3] for one in every_choice(world, plan))
    assert (short, cost) == pytest.approx(best[:2], rel=1e-9, abs=1e-9)
    assert rent <= best[2] + 1e-9


@settings(RELAXED, max_examples=6)
@given(worlds())
def test_no_other_standbys_are_better(drawn: tuple[Problem, Plan]) -> None:
    check(*drawn)


def going(name: str, churn: str | None, zone: str = "", usd: float = 1.0, **of: Any) -> Node:
    return Node(
        **{"id": name, "device": "chip", "churn": churn, "zone": zone} | of, usd_per_hour=usd
    )


WEIGHED = {"objective": "weighted", "nice_to_have": {"goodput": 30.0, "usd_per_hour": 1.0}}


def test_a_node_that_goes_may_take_over_before_one_that_stays() -> None:
    lost = [going("a", "seldom", "x"), going("b", "often", "x")]
    check(
        *placed(
            [*lost, going("c", None, usd=0.5), going("d", "often", "x", usd=0.5)],
            {"objective": "goodput"},
            0.0,
            0.0,
            whole=False,
        )
    )


def test_nodes_that_stand_by_change_places_with_each_other() -> None:
    nodes = [
        going("a", "seldom", "x"),
        going("b", "often", trust="rented"),
        going("c", "often", "x", usd=0.5, trust="own"),
        going("d", "often", "x", usd=0.0, trust="rented"),
    ]
    check(*placed(nodes, {"objective": "goodput"}, 0.0, 0.0, whole=True))


def test_two_nodes_stand_by_where_two_go_at_once_and_one_is_no_help() -> None:
    lost = [going("a", "often", "x"), going("b", "often", "x")]
    check(
        *placed(
            [
                *lost,
                going("c", "often", usd=0.0, device="small"),
                going("d", None, usd=0.5, device="small"),
            ],
            WEIGHED,
            0.0,
            3.0,
            whole=False,
        )
    )


@pytest.mark.slow
@settings(RELAXED, max_examples=10)
@given(worlds())
def test_no_other_standbys_are_better_many_times(drawn: tuple[Problem, Plan]) -> None:
    check(*drawn)
