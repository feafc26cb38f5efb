"""Why requests failed, counted."""

from __future__ import annotations

from planner.core.metrics import RequestRecord
from planner.sim.failures import failures, too_long


def record(number: int, reason: str = "") -> RequestRecord:
    status = "failed" if reason else "completed"
    return RequestRecord(number, 0, 10, 0.0, status=status, reason=reason)  # type: ignore[arg-type]


def test_requests_that_are_too_long_count_as_one_reason_with_the_longest() -> None:
    reasons = ["lost b; gone", too_long(700, 640), "", too_long(2889, 640), too_long(90, 64)]
    found = failures(record(number, reason) for number, reason in enumerate(reasons))
    assert [(one.requests, one.reason) for one in found] == [
        (2, "up to 2889 tokens do not fit a seat of 640"),
        (1, "lost b; gone"),
        (1, "up to 90 tokens do not fit a seat of 64"),
    ]
    assert "workload.prompt" in found[0].mend
    assert "standbys" in found[1].mend


def test_where_nothing_failed_there_is_no_reason() -> None:
    assert failures([record(0)]) == ()
