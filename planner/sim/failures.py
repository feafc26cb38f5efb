"""Failures: how many requests failed for each reason, and what would mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from planner.core.metrics import RequestRecord

_TOO_LONG = "tokens do not fit a seat of"
_LONGER = "plan again with a workload.prompt and workload.output as long as these requests"
_STAY = "plan standbys for nodes that leave, or raise serving.patience"


@dataclass(frozen=True, slots=True)
class Failure:
    """Requests that failed for one reason."""

    reason: str
    requests: int
    mend: str


def too_long(tokens: int, room: int) -> str:
    """The reason of a request with more tokens than a seat of its pipeline has room for."""
    return f"{tokens} {_TOO_LONG} {room}"


def failures(records: Iterable[RequestRecord]) -> tuple[Failure, ...]:
    """The reasons of all failed requests, the most frequent first; lengths count as one."""
    counts: dict[str, int] = {}
    most: dict[str, int] = {}
    for record in records:
        if record.status != "failed":
            continue
        reason, (tokens, _, rest) = record.reason, record.reason.partition(" ")
        if rest.startswith(_TOO_LONG):
            reason = rest
            most[rest] = max(most.get(rest, 0), int(tokens))
        counts[reason] = counts.get(reason, 0) + 1
    ranked = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return tuple(
        Failure(f"up to {most[reason]} {reason}", count, _LONGER)
        if reason in most
        else Failure(reason, count, _STAY)
        for reason, count in ranked
    )
