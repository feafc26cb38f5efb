"""Where the time of requests went."""

from __future__ import annotations

import pytest

from planner.core.metrics import RequestRecord
from planner.core.workload import Closed, Fixed, Workload
from planner.sim.result import Recovery
from planner.sim.simulate import simulate
from planner.sim.spent import spent_s
from tests.core.world import problem
from tests.test_laws import split


def record(number: int, begun_s: float, first_s: float, last_s: float) -> RequestRecord:
    return RequestRecord(
        number, 0, 10, 1.0, [first_s, last_s], status="completed", delivered=5, begun_s=begun_s
    )


def test_time_with_a_lost_node_is_taken_out_of_the_phase_it_fell_in() -> None:
    records = [record(0, 2.0, 4.0, 10.0), RequestRecord(1, 0, 10, 1.0, status="failed")]
    stops = [Recovery(0, 0, "a", 3.0, 3.5, 5.0), Recovery(0, 1, "b", 4.5, 4.6, 6.0)]
    assert spent_s(records, stops, 0.25) == pytest.approx(
        {"tokenising": 0.25, "waiting": 0.75, "prompt": 1.0, "answer": 4.0, "lost nodes": 3.0}
    )
    elsewhere = [Recovery(1, 0, "a", 3.0, 3.5, 5.0)]
    assert spent_s(records, elsewhere, 0.25)["lost nodes"] == 0.0


@pytest.mark.parametrize("exact", [False, True])
def test_who_finds_no_seat_waits_for_the_first_job(exact: bool) -> None:
    """Two users and one seat: in the mean each request waits for the whole one of the other."""
    world = problem(
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=50),
            output=Fixed(tokens=20),
            requests=400,
        )
    )
    result = simulate(world, split(world, [2]), exact_steps=exact)
    spent = result.spent_s
    assert spent["tokenising"] == pytest.approx(world.engine.request_s)
    served_s = spent["prompt"] + spent["answer"]
    assert spent["waiting"] == pytest.approx(served_s, rel=0.02)
    assert sum(spent.values()) == pytest.approx((result.metrics.mean_e2el_ms or 0.0) / 1e3)
