"""Weighted sums: the search is steered by them, and its bound is about them."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from planner.core.cluster import Node
from planner.core.metrics import Metrics
from planner.core.problem import Problem
from planner.core.requirements import Requirements, Wish
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.infeasible import NoPlanError
from planner.plan.promise import as_cost
from planner.plan.solve import solve
from planner.plan.survey import bounded, surveyed
from tests.core.world import device, link, model, problem
from tests.plan.test_solve import brute_force, check_against_brute_force
from tests.plan.worlds import problems, weights

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def weighing(world: Problem, wishes: dict[Wish, float]) -> Problem:
    """The world with a weighted sum as its objective; answers have several tokens."""
    requirements = Requirements(
        objective="weighted",
        must_have=world.requirements.must_have,
        nice_to_have=wishes,
    )
    output = world.workload.output
    workload = world.workload
    if output.max_tokens < 2:
        workload = workload.model_copy(update={"output": Fixed(tokens=2)})
    return Problem.model_validate(
        dict(world) | {"requirements": requirements, "workload": workload}
    )


@settings(RELAXED, max_examples=10)
@given(problems(bounds=True), weights())
def test_the_least_sum_is_what_brute_force_finds(world: Problem, wishes: dict[Wish, float]) -> None:
    check_against_brute_force(weighing(world, wishes))


@pytest.mark.slow
@settings(RELAXED, max_examples=60)
@given(problems(bounds=True), weights())
def test_the_least_sum_is_what_brute_force_finds_many_times(
    world: Problem, wishes: dict[Wish, float]
) -> None:
    check_against_brute_force(weighing(world, wishes), explain=False)


@settings(RELAXED, max_examples=5)
@given(problems(), weights(), st.sampled_from(["p95_ttft", "p99_e2el"]))
def test_percentiles_of_unlike_replicas_may_leave_a_gap_that_holds(
    world: Problem, wishes: dict[Wish, float], percentile: Wish
) -> None:
    asked = weighing(world, wishes | {percentile: 0.5})
    optimum = brute_force(asked)
    slack = 1e-9 * abs(optimum) if math.isfinite(optimum) else 0.0
    try:
        solution = solve(asked, equal_weights=True)
    except NoPlanError:
        assert optimum == math.inf
        return
    assert as_cost(asked, solution.bound) <= optimum + slack
    assert solution.value >= optimum - slack
    if len(solution.plan.pipelines) == 1 and solution.gap == 0:
        assert solution.value == pytest.approx(optimum, rel=1e-9)


@settings(RELAXED, max_examples=5)
@given(problems(), weights())
def test_bounds_of_large_clusters_are_about_the_sum(
    world: Problem, wishes: dict[Wish, float]
) -> None:
    asked = weighing(world, wishes)
    try:
        optimum = solve(asked, equal_weights=True, explain=False).value
    except NoPlanError:
        return
    slack = 1e-9 * abs(optimum)
    assert bounded(asked) <= optimum + slack
    found = surveyed(asked)
    assert min(one.best.bound for one in found) <= optimum + slack
    assert min(one.best.cost for one in found) >= optimum - slack


def offers() -> Problem:
    """A quick node that is dear, a middling one, and one that is slow and free."""
    speeds = {"quick": (400e9, 4.0), "middling": (200e9, 1.0), "slow": (40e9, 0.0)}
    return problem(
        [Node(id="home"), *(Node(id=n, device=n, price=usd) for n, (_, usd) in speeds.items())],
        [link(one_way_latency=0.001)],
        [device(n, memory=1e9, memory_bandwidth=rate) for n, (rate, _) in speeds.items()],
        model=model(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=10),
            output=Fixed(tokens=20),
        ),
    )


@pytest.mark.parametrize(
    ("usd_worth", "node"), [(0.01, "quick"), (0.8, "middling"), (50.0, "slow")]
)
def test_what_a_dollar_is_worth_in_milliseconds_decides(usd_worth: float, node: str) -> None:
    solution = solve(weighing(offers(), {"tpot": 1.0, "usd_per_hour": usd_worth}))
    assert solution.plan.nodes == (node,)
    assert solution.gap == 0
    metrics = solution.prediction.metrics
    assert metrics.mean_tpot_ms is not None
    assert metrics.usd_per_hour is not None
    assert solution.value == pytest.approx(metrics.mean_tpot_ms + usd_worth * metrics.usd_per_hour)


def test_a_sum_takes_off_what_is_to_be_large_and_knows_nothing_of_unknown_figures() -> None:
    wanted = Requirements(objective="weighted", nice_to_have={"tpot": 2.0, "throughput": 0.5})
    metrics = Metrics(mean_tpot_ms=10.0, output_throughput=30.0)
    assert wanted.points(metrics) == {"tpot": 20.0, "throughput": -15.0}
    assert wanted.value(metrics) == 5.0
    assert wanted.value(Metrics(mean_tpot_ms=10.0)) is None
    assert Requirements(objective="tpot", nice_to_have={"ttft": 3.0}).value(metrics) == 10.0


@pytest.mark.parametrize(
    ("wishes", "said"),
    [({}, "needs nice_to_have"), ({"usd_per_million_output_tokens": 1.0}, "cannot weigh")],
)
def test_weights_that_make_no_sum_are_refused(wishes: dict[Wish, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Requirements(objective="weighted", nice_to_have=wishes)
