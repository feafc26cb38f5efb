"""The front of plans is found: it equals what enumerating all plans says."""

from __future__ import annotations

from itertools import permutations

import pytest

from planner.advice.front import front, front_points
from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.quant import QualityEffect
from planner.core.requirements import MustHave
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.predict import predict
from planner.plan.quality import plan_quality
from planner.plan.solve import searched
from tests.advice.world import CHEAPEST, machines
from tests.core.world import device, link, quant


def world(**must: object) -> Problem:
    """Three cards, the faster ones dearer, and two schemes, the slimmer one worse."""
    nodes = [
        Node(id="slow", device="old", price=0.5),
        Node(id="fair", device="mid", price=1.5),
        Node(id="fast", device="new", price=9.0),
    ]
    effect = QualityEffect(family="tiny", metric="task_recovery", value=0.95, source="made up")
    slim = quant("q4", weight_bits=4.5, lossless=False, quality=(effect,))
    cards = tuple(
        device(name, memory_bandwidth=rate, compute={"bf16": 1e12})
        for name, rate in (("old", 0.05e9), ("mid", 0.2e9), ("new", 4e9))
    )
    made = machines(*nodes, links=(link(one_way_latency=0.001),), devices=cards)
    workload = Workload(
        arrivals=Closed(kind="closed", concurrency=1),
        prompt=Fixed(tokens=20),
        output=Fixed(tokens=11),
        requests=4,
    )
    wanted = CHEAPEST.model_copy(update={"must_have": MustHave.model_validate(must)})
    changes = {"quants": (quant(), slim), "workload": workload}
    return made.model_copy(update=changes | {"requirements": wanted})


def point(problem: Problem, plan: Plan) -> tuple[float, ...]:
    metrics = predict(problem, plan).metrics
    return (
        round(metrics.usd_per_million_output_tokens or 0, 9),
        round(metrics.p95_tpot_ms or 0, 9),
        -(plan_quality(problem, plan) or 0.0),
    )


def every(problem: Problem) -> list[tuple[float, ...]]:
    """All plans of one pipeline that there are."""
    found = []
    names = [node.id for node in problem.cluster.workers]
    for scheme in problem.quants:
        for count in (1, 2, 3):
            for order in permutations(names, count):
                for cuts in permutations(range(1, 4), count - 1):
                    if list(cuts) != sorted(cuts):
                        continue
                    edges = (0, *cuts, 4)
                    stages = tuple(
                        Stage(node=name, start=edges[i], stop=edges[i + 1], quant=scheme.id)
                        for i, name in enumerate(order)
                    )
                    found.append(point(problem, Plan(pipelines=(Pipeline(stages=stages),))))
    return found


def undominated(points: list[tuple[float, ...]]) -> set[tuple[float, ...]]:
    return {
        one
        for one in points
        if not any(
            other != one and all(a <= b for a, b in zip(other, one, strict=True))
            for other in points
        )
    }


def test_the_front_is_that_of_all_plans() -> None:
    problem = world()
    found = {point(problem, one.plan) for one in front(problem, searched, most=20)}
    assert found == undominated(every(problem))
    assert len(found) >= 4


def test_a_must_have_cuts_the_front() -> None:
    problem = world(quality=0.99)
    found = front(problem, searched)
    assert {plan_quality(problem, one.plan) for one in found} == {1.0}


def test_the_chosen_plan_is_marked_and_the_others_are_told_against_it() -> None:
    problem = world()
    found = front(problem, searched)
    cheapest = searched(problem)[0].plan
    points = front_points(problem, found, cheapest)
    (chosen,) = [one for one in points if one.chosen]
    assert chosen.text == "chosen"
    assert all(one.front for one in points)
    others = [one.text for one in points if not one.chosen]
    assert all("dearer" in text for text in others)
    assert any("times faster" in text for text in others)
    prices = [one.values["usd_per_million_output_tokens"] or 0 for one in points]
    assert prices == sorted(prices)
    assert chosen.values["usd_per_million_output_tokens"] == pytest.approx(prices[0])
