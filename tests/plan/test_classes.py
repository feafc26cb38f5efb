"""Classes: nodes that only prices tell apart are one where nobody asks for prices."""

from __future__ import annotations

import pytest

from planner.core.cluster import Node
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.plan.classes import node_classes
from planner.plan.solve import solve
from tests.core.world import device, problem


def market(**asked: object) -> Problem:
    """Three nodes that differ by what they cost, and one that nobody pays."""
    rents = {"dear": 3.0, "cheap": 1.0, "fair": 2.0}
    nodes = [Node(id="home")]
    nodes += [Node(id=name, device="chip", price=usd) for name, usd in rents.items()]
    nodes.append(Node(id="own", device="chip", purchase=10.0, electricity=1e-7, trust="rented"))
    requirements = Requirements.model_validate(asked)
    return problem(nodes, devices=[device(memory=1e6)], requirements=requirements)


def test_nodes_that_only_prices_tell_apart_are_one_class_with_the_cheapest_first() -> None:
    classes = node_classes(market(objective="tpot"))
    assert [one.nodes for one in classes] == [("cheap", "fair", "dear"), ("own",)]


@pytest.mark.parametrize(
    "asked",
    [
        {"objective": "usd_per_hour"},
        {"objective": "usd_per_million_output_tokens"},
        {"objective": "weighted", "nice_to_have": {"tpot": 1.0, "usd_per_hour": 2.0}},
        {"must_have": MustHave(usd_per_hour=9.0)},
        {"must_have": MustHave(usd_per_million_output_tokens=9.0)},
    ],
)
def test_where_prices_matter_they_tell_nodes_apart(asked: dict[str, object]) -> None:
    assert [one.nodes for one in node_classes(market(**asked))] == [
        ("dear",),
        ("cheap",),
        ("fair",),
        ("own",),
    ]


def test_of_nodes_that_are_as_good_as_each_other_a_plan_takes_the_cheapest() -> None:
    plan = solve(market(objective="tpot", must_have=MustHave(trust="own"))).plan
    assert plan.nodes == ("cheap",)
