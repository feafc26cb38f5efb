"""The largest load that meets the must-haves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cost import Batch, traverse
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.request import paced
from planner.core.requirements import MustHave, Requirements
from planner.core.workload import Closed, Fixed, Lognormal, Poisson, Request, Workload
from planner.sim.capacity import Capacity, burdened, capacity
from planner.sim.replicate import Replications, replicate
from tests.core.world import engine, problem
from tests.test_laws import split


def asked(world: Problem, must: MustHave, plan: Plan, seeds: int = 1) -> Capacity:
    """What a plan takes."""

    def evaluate(load: float) -> Replications:
        workload = world.workload.under(load)
        return replicate(world.model_copy(update={"workload": workload}), plan, range(seeds))

    unit = "users" if world.workload.concurrency else "requests_per_s"
    return capacity(must, world.workload.load, unit, evaluate)  # type: ignore[arg-type]


def crowd(users: int) -> Problem:
    """Users who ask again as soon as they are answered, with lengths that vary."""
    return problem(
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=users),
            prompt=Lognormal(kind="lognormal", median_tokens=60, sigma=0.5, max_tokens=200),
            output=Lognormal(kind="lognormal", median_tokens=8, sigma=0.5, max_tokens=30),
            requests=40,
        )
    )


@settings(max_examples=8, deadline=None)
@given(start=st.integers(1, 40), bound_s=st.floats(0.02, 1.0))
def test_users_are_found_as_by_trying_them_all(start: int, bound_s: float) -> None:
    world, must = crowd(start), MustHave(mean_ttft=bound_s)
    plan = split(world, [2], seats=4)
    found = asked(world, must, plan)

    def meets(users: int) -> bool:
        workload = world.workload.under(users)
        run = replicate(world.model_copy(update={"workload": workload}), plan, [0])
        return not must.missed(run.metrics)

    assert found.limited
    assert not meets(int(found.load) + 1)
    assert found.load == 0 or meets(int(found.load))
    assert found.interval is None
    assert found.at.load == found.load or not found.load
    beyond = found.beyond
    assert beyond is not None
    assert beyond.load == found.load + 1
    assert [miss.metric for miss in beyond.missed] == ["mean_ttft_ms"]


@pytest.mark.slow
def test_the_rate_of_a_single_server_is_that_of_m_d_1() -> None:
    """Wait rho S / (2 (1 - rho)) is S at rho = 2/3 (Pollaczek-Khinchine)."""
    calm = engine(hop=0, coordinator_step=0, request=0, frame=0)
    world = problem(
        engine=calm,
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=200.0),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=1),
            requests=3_000,
        ),
    )
    plan = split(world, [])
    step_s = traverse(world, plan.pipelines[0], Batch.prefill(100)).total_s
    found = asked(world, MustHave(mean_ttft=2 * step_s), plan, seeds=5)
    assert found.interval is not None
    low, high = found.interval
    assert low * step_s < 2 / 3 < high * step_s
    assert low <= found.load <= high
    assert found.load * step_s == pytest.approx(2 / 3, rel=0.05)
    assert high < low * 1.2


def test_a_bound_that_nothing_meets_leaves_no_load() -> None:
    world = crowd(8)
    found = asked(world, MustHave(mean_ttft=1e-6), split(world, [2], seats=4))
    assert (found.load, found.limited) == (0.0, True)
    assert [one.load for one in found.tried] == [1.0, 8.0]
    assert found.at.load == 1.0


def test_a_bound_that_load_does_not_break_is_told() -> None:
    """Whoever has a seat gets tokens at the same pace, however many wait."""
    world = crowd(1)
    found = asked(world, MustHave(mean_tpot=10.0), split(world, [2], seats=2))
    assert (found.load, found.limited, found.beyond) == (1024.0, False, None)


def test_only_bounds_that_load_can_break_count() -> None:
    must = MustHave(output_throughput=1e9, usd_per_million_output_tokens=0.0, p95_ttft=1.0)
    assert burdened(must) == ["p95_ttft_ms"]
    assert burdened(Requirements().must_have) == []


def test_the_load_of_a_workload_is_replaced() -> None:
    world = crowd(3).workload
    assert (world.load, world.under(30).load) == (3.0, 30.0)
    assert (world.under(2).requests, world.under(30).requests) == (40, 120)
    rate = Workload(
        arrivals=Poisson(kind="poisson", rate=2.0), prompt=Fixed(tokens=1), output=Fixed(tokens=1)
    )
    assert (rate.load, rate.under(0.5).load) == (2.0, 0.5)
    slow, fast = rate.under(0.5).sample(1), rate.sample(1)
    assert [one.arrival_s for one in slow] == pytest.approx([4 * one.arrival_s for one in fast])


def test_recorded_requests_come_at_another_rate() -> None:
    recorded = [Request(index, 3.0 * index, 10, 5) for index in range(5)]
    times_s = [one.arrival_s for one in paced(recorded, 2.0)]
    assert times_s == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert math.isclose(1 / 3, 4 / recorded[-1].arrival_s)
