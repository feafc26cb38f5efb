from __future__ import annotations

import pytest

from planner.core.cost.batch import Batch
from planner.run.steps import Step, hops


def step(job: int, received_s: float, computed_s: float, waited_s: float = 1.0) -> Step:
    return Step(job, "decode", 2, 2, 30, waited_s, received_s, computed_s)


def test_a_step_speaks_the_language_of_the_cost_model() -> None:
    one = step(1, 5.0, 7.5).after(2.0)
    assert one.batch == Batch.decode(2, 30)
    assert (one.received_s, one.compute_s) == (3.0, 2.5)


def test_hops_are_known_where_the_receiver_waited() -> None:
    sent = [step(1, 0.0, 1.0), step(2, 1.0, 2.0), step(3, 2.0, 3.0)]
    received = [step(1, 1.25, 9.0), step(2, 9.0, 9.5, waited_s=0.0), step(4, 9.5, 9.9)]
    (hop,) = hops(sent, received)
    assert (hop.job, hop.phase, hop.sequences) == (1, "decode", 2)
    assert hop.seconds == pytest.approx(0.25)
