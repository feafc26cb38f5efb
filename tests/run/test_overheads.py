"""What a probe makes of the runs it measures."""

from __future__ import annotations

import pytest

from planner.run.losses import Recovered
from planner.run.overheads import _beside_replays_s
from planner.run.steps import Step


def test_a_takeover_is_what_a_recovery_takes_besides_warm_replays() -> None:
    """Found at 2 s, whole at 2.1 s; the first replay takes 5 ms more than later ones, once."""
    times_s = ((2.01, 2.045), (2.046, 2.076), (2.066, 2.096))
    replays = tuple(Step(0, "prefill", 1, 56, 0, 0.0, began, ended) for began, ended in times_s)
    one = Recovered(0, 1, "b", "c", 1.9, 2.0, 2.1, True, replays)
    assert _beside_replays_s(one) == pytest.approx(0.1 - 3 * 0.030)
    idle = Recovered(0, 1, "b", "c", 1.9, 2.0, 2.1, True)
    assert _beside_replays_s(idle) == pytest.approx(0.1)
