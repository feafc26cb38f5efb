"""Waves: equal requests that start and end together."""

from __future__ import annotations

import pytest

from planner.core.requirements import MustHave, Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.predict import load_of
from planner.plan.queueing import Steps, felt
from tests.core.world import problem


@pytest.mark.parametrize("must", [{}, {"mean_ttft": 0.3}], ids=["no bound", "bound"])
@pytest.mark.parametrize("seats", [2, 6])
def test_the_rate_is_the_same_where_nothing_else_is_asked(
    must: dict[str, float], seats: int
) -> None:
    world = problem(
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=6),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=20),
        ),
        requirements=Requirements(must_have=MustHave.model_validate(must)),
    )
    load = load_of(world, seats, 1, 1.0)
    assert load.in_waves
    steps = Steps(0.05, 0.04, (0.1,) * len(load.batches), (0.01,) * len(load.batches))
    whole, asked = felt(load, steps), felt(load, steps, {})
    assert whole.ttft_s["mean"] > 0
    assert not asked.ttft_s
    assert (asked.requests_per_s, asked.batch) == (whole.requests_per_s, whole.batch)
    assert (asked.good, asked.overloaded) == (whole.good, whole.overloaded)
    assert asked.good == 1.0 or must
