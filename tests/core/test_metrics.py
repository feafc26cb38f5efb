import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.core.metrics import RequestRecord, percentile, summarise


def record(arrival_s: float, *token_s: float, status: str = "completed") -> RequestRecord:
    return RequestRecord(0, 0, 10, arrival_s, list(token_s), status)  # type: ignore[arg-type]


def test_definitions_follow_the_benchmark_client() -> None:
    metrics = summarise([record(1, 2, 2.5, 3.5), record(2, 4)], usd_per_hour=3.6)
    assert metrics.mean_ttft_ms == 1500
    assert metrics.mean_tpot_ms == 750
    assert metrics.mean_itl_ms == 750
    assert metrics.mean_e2el_ms == 2250
    assert metrics.output_throughput == pytest.approx(4 / 3)
    assert metrics.total_token_throughput == pytest.approx(24 / 3)
    assert metrics.usd_per_million_output_tokens == pytest.approx(1e-3 / (4 / 3) * 1e6)


def test_goodput_counts_requests_that_meet_every_bound() -> None:
    records = [record(0, 1, 2), record(0, 3, 4), record(0, status="failed")]
    metrics = summarise(records, bounds_s={"ttft": 2.0, "tpot": 1.0})
    assert metrics.request_goodput == pytest.approx(1 / 4)
    assert (metrics.completed, metrics.failed) == (2, 1)
    assert metrics.availability == pytest.approx(2 / 3)


def test_what_nobody_answered_at_the_end_counts_in_the_time_too() -> None:
    """A plan that is lost half way has served half of the load, not all of it in half the time."""
    lost = [record(at, status="failed") for at in (4, 6, 8)]
    metrics = summarise([record(0, 1, 2), record(2, 3, 4), *lost], usd_per_hour=3.6)
    assert metrics.request_throughput == metrics.request_goodput == pytest.approx(2 / 8)
    assert metrics.output_throughput == pytest.approx(4 / 8)
    assert metrics.usd_per_million_output_tokens == pytest.approx(1e-3 / (4 / 8) * 1e6)


def test_nothing_completed_means_nothing_known() -> None:
    metrics = summarise([record(0, status="failed")])
    assert metrics.mean_ttft_ms is None
    assert metrics.availability == 0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    expected = float(np.percentile(values, percent))
    assert percentile(sorted(values), percent) == pytest.approx(expected, rel=1e-9, abs=1e-9)
