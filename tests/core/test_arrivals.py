"""Arrivals keep their mean rate and are as bursty as they say."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from planner.core.arrivals import Diurnal, Gamma, OnOff, Weibull

KINDS = [
    Gamma(kind="gamma", rate=2, shape=0.5),
    Weibull(kind="weibull", rate=2, shape=0.7),
    OnOff(kind="on_off", rate=2, on=3.0, off=5.0),
    Diurnal(kind="diurnal", rate=2, swing=0.9, period=100.0),
]


@pytest.mark.parametrize("arrivals", KINDS, ids=lambda one: one.kind)
def test_requests_come_at_the_mean_rate_and_in_order(
    arrivals: Gamma | Weibull | OnOff | Diurnal,
) -> None:
    times = list(itertools.islice(arrivals.times(random.Random(1)), 40_000))
    assert times == sorted(times)
    assert len(times) / times[-1] == pytest.approx(2, rel=0.05)


def test_gamma_gaps_have_the_variation_of_their_shape() -> None:
    times = list(itertools.islice(KINDS[0].times(random.Random(1)), 40_000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    variation = statistics.stdev(gaps) / statistics.fmean(gaps)
    assert variation == pytest.approx(0.5**-0.5, rel=0.03)


def test_days_are_busier_than_nights() -> None:
    times = itertools.islice(KINDS[3].times(random.Random(1)), 10_000)
    day = sum(time_s % 100 < 50 for time_s in times) / 10_000
    assert day == pytest.approx(0.5 + 0.9 / 3.14159, abs=0.02)
