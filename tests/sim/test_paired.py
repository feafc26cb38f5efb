"""Differences of plans that met the same random numbers."""

from __future__ import annotations

import pytest

from planner.core.metrics import Metrics
from planner.sim.replicate import differences


def test_what_seeds_have_in_common_drops_out_of_differences() -> None:
    """Runs differ by hundreds, plans by 2, 3 and 4: 3 and 4.303 x 1 / sqrt(3) around it."""
    one = [Metrics(mean_ttft_ms=value, completed=3) for value in (100.0, 500.0, 900.0)]
    other = [Metrics(mean_ttft_ms=value) for value in (102.0, 503.0, 904.0)]
    found = differences(one, other)
    assert set(found) == {"mean_ttft_ms"}
    assert found["mean_ttft_ms"] == pytest.approx((3.0, 3.0 - 2.4843, 3.0 + 2.4843), rel=1e-4)


def test_a_single_run_has_no_interval() -> None:
    assert differences([Metrics(mean_ttft_ms=1.0)], [Metrics(mean_ttft_ms=2.0)]) == {}
