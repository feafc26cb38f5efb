"""Standbys: added only as far as availability asks, priced, and never a cheaper way overlooked."""

from __future__ import annotations

from typing import Any

import pytest

from planner.core.cluster import Churn, Cluster, Node
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.solve import solve
from tests.core.world import CARD, device, problem


def world(availability: float | None, spares: int = 2, **must: Any) -> Problem:
    """One layer or so fits a node; workers are up 90 % of the time and cost 1 USD/h."""
    churn = Churn.model_validate(
        {"id": "c", "distribution": "exponential", "up_scale": 9.0, "down_scale": 1.0} | CARD
    )
    nodes = [Node(id="home")] + [
        Node(id=f"n{index}", device="chip", churn="c", price=1.0) for index in range(2 + spares)
    ]
    asked = MustHave.model_validate({"availability": availability} | must)
    made = problem(
        nodes=nodes,
        devices=[device(memory=3e5)],
        requirements=Requirements(objective="tpot", must_have=asked),
    )
    values = dict(made.cluster) | {"churn": (churn,)}
    return made.model_copy(update={"cluster": Cluster(**values)})


def test_without_a_bound_there_are_no_standbys() -> None:
    solution = solve(world(None))
    assert solution.plan.standbys == ()
    assert solution.prediction.metrics.availability == pytest.approx(
        0.9 ** len(solution.plan.nodes)
    )


def test_standbys_are_added_until_it_is_there_as_often_as_asked_and_are_paid_for() -> None:
    free, kept = solve(world(None)), solve(world(0.9))
    assert kept.plan.pipelines == free.plan.pipelines
    assert kept.prediction.metrics.availability is not None
    assert kept.prediction.metrics.availability >= 0.9
    spares = {standby.node for standby in kept.plan.standbys}
    assert spares
    assert not spares & set(kept.plan.nodes)
    assert free.prediction.metrics.usd_per_hour is not None
    assert kept.prediction.metrics.usd_per_hour == pytest.approx(
        free.prediction.metrics.usd_per_hour + 0.9 * len(spares)  # none is paid for while away
    )
    for node in spares:
        states = [one.state for one in kept.plan.standbys if one.node == node]
        assert states.count("hot") == 1


def test_what_cannot_be_reached_is_refused_and_the_nearest_miss_holds() -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(world(0.999, spares=1))
    assert caught.value.constraint == "availability"
    nearest = caught.value.nearest
    assert nearest is not None
    reached = nearest.prediction.metrics.availability
    assert reached is not None
    assert reached < 0.999
    asked = world(reached - 1e-9, spares=1)
    assert predict(asked, solve(asked).plan).metrics.availability == pytest.approx(reached)


def test_a_budget_that_standbys_would_break_is_kept() -> None:
    with pytest.raises(NoPlanError):
        solve(world(0.9, usd_per_hour=2.5))


def test_what_a_standby_costs_and_saves_is_told_and_adds_up() -> None:
    asked = world(0.9)
    solution = solve(asked)
    told = [one for one in solution.standbys if one.chosen]
    assert {one.node for one in told} == {one.node for one in solution.plan.standbys}
    for one in told:
        rest = tuple(each for each in solution.plan.standbys if each.node != one.node)
        without = predict(asked, solution.plan.model_copy(update={"standbys": rest})).metrics
        here = solution.prediction.metrics
        assert one.availability_otherwise == without.availability
        saved = (here.request_goodput or 0.0) - (without.request_goodput or 0.0)
        assert one.tokens_per_hour == pytest.approx(
            saved * asked.workload.output.mean_tokens * 3600
        )
        assert one.usd_per_hour == pytest.approx(
            (here.usd_per_hour or 0.0) - (without.usd_per_hour or 0.0)
        )
        assert f"without it availability would be {without.availability:.2%}" in one.text


def test_the_next_node_that_does_not_stand_by_is_told_of_with_what_it_would_do() -> None:
    asked = world(None)
    solution = solve(asked)
    (next_one,) = solution.standbys
    assert not next_one.chosen
    assert next_one.node not in solution.plan.nodes
    assert next_one.usd_per_hour == pytest.approx(0.9)
    assert next_one.availability_otherwise > (solution.prediction.metrics.availability or 1.0)
