"""Explanations: values with units, and nothing that weighs nothing."""

from __future__ import annotations

import re

import pytest

from planner.core.cluster import Node
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.solution import Solution
from planner.plan.solve import solve
from tests.core.world import problem
from tests.sim.test_churn import churn, restless


@pytest.fixture(scope="module")
def solution() -> Solution:
    """Two equal nodes for two users: alone on one node, or each on its own."""
    users = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=100),
        output=Fixed(tokens=11),
    )
    nodes = [Node(id="a", device="chip"), Node(id="b", device="chip")]
    return solve(problem(nodes, workload=users, requirements=Requirements(objective="throughput")))


def test_users_are_whole_and_flips_name_their_unit(solution: Solution) -> None:
    for flip in solution.flips:
        assert f"the best candidate is {flip.winner}" in flip.text
        if flip.parameter == "load":
            assert flip.to == int(flip.to) != flip.now
            assert f"{int(flip.to)} users" in flip.text
        else:
            assert "times today's" in flip.text


def test_limits_weigh_something(solution: Solution) -> None:
    assert solution.limits
    assert all(limit.share >= 0.005 for limit in solution.limits)


def test_who_takes_over_comes_before_the_plan_that_would_be_made_anew() -> None:
    nodes = [Node(id="home")]
    nodes += [Node(id=name, device="chip", churn="often", usd_per_hour=1.0) for name in "abc"]
    wanted = Requirements.model_validate({"objective": "goodput"})
    found = solve(restless(churn("often"), nodes=nodes, requirements=wanted))
    waiting = [one.node for one in found.plan.standbys]
    assert waiting
    said = re.fullmatch(
        r"if (\w) leaves, (.+) takes over; planned anew without it: .+", found.fallback_text
    )
    assert said is not None
    assert [one.split(" ")[0] for one in said[2].split(" or ")] == waiting


def test_without_must_haves_none_is_broken_where_a_node_is_missed() -> None:
    nodes = [Node(id="home"), Node(id="a", device="chip")]
    found = solve(problem(nodes))
    assert found.fallback_text == "without a nothing can hold or serve the model"
