"""Gaps between tokens, counted by size."""

from __future__ import annotations

import random

import numpy as np
import pytest

from planner.core.gaps import Gaps


def test_quantiles_of_many_runs_are_those_of_the_single_gaps() -> None:
    rng = random.Random(3)
    gaps, single = Gaps(), []
    for _ in range(400):
        first_s, grows_s = rng.lognormvariate(-4, 1), rng.uniform(0, 0.01)
        times = rng.randint(1, 300)
        last_s = first_s + grows_s * (times > 1)
        gaps.add(first_s, last_s, times)
        single += list(np.linspace(first_s, last_s, times))
    assert gaps.count == len(single)
    assert gaps.mean_s == pytest.approx(np.mean(single), rel=1e-12)
    for share in (0.05, 0.5, 0.95, 0.99):
        assert gaps.quantile_s(share) == pytest.approx(np.quantile(single, share), rel=2e-3)


def test_runs_that_were_sorted_before_still_count() -> None:
    gaps = Gaps()
    gaps.add(0.01, 0.01, 99)
    assert gaps.quantile_s(0.5) == pytest.approx(0.01, rel=1e-3)
    gaps.add(1.0, 1.0, 101)
    assert gaps.quantile_s(0.5) == pytest.approx(1.0, rel=1e-3)
    assert gaps.quantile_s(0.4) == pytest.approx(0.01, rel=1e-3)
