from __future__ import annotations

import time

import pytest

from planner.run.gauge import gauge

pytestmark = pytest.mark.alone


def test_readings_are_rates_of_this_machine_and_taken_in_a_few_seconds() -> None:
    begun_s = time.monotonic()
    found = gauge()
    assert time.monotonic() - begun_s < 20
    assert 1e8 < found.memory_bytes_per_s < 1e13
    assert 1e8 < found.flop_per_s < 1e15
    assert 1e-8 < found.call_s < 1e-2
