"""Explanations: values with units, and nothing that weighs nothing."""

from __future__ import annotations

import pytest

from planner.core.cluster import Node
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.solution import Solution
from planner.plan.solve import solve
from tests.core.world import problem


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
        assert f"the best of the candidates found is: {flip.winner}" in flip.text
        if flip.parameter == "load":
            assert flip.to == int(flip.to) != flip.now
            assert f"{int(flip.to)} users" in flip.text
        else:
            assert "times today's" in flip.text


def test_limits_weigh_something(solution: Solution) -> None:
    assert solution.limits
    assert all(limit.share >= 0.005 for limit in solution.limits)
