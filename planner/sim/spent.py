"""Spent: where the time of requests went, from their arrival to their last token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from planner.core.metrics import RequestRecord
from planner.core.schedule import Job
from planner.sim.result import Recovery
from planner.sim.served import Served

PHASES = ("tokenising", "waiting", "prompt", "answer")
"""Until it can be scheduled, until its first job, until its first token, until its last one."""
STOPPED = "lost nodes"
"""While its pipeline stood still until a lost stage was taken over, whatever the phase."""

Stops = dict[int, list[tuple[float, float]]]


def begin(jobs: Iterable[Job[Served]], now_s: float) -> None:
    """Notes when requests have their first job."""
    for job in jobs:
        if job.phase == "prefill":
            begun = [piece.sequence for piece in job.pieces] if job.pieces else job.sequences
            for sequence in begun:
                if sequence.record.begun_s is None:
                    sequence.record.begun_s = now_s


def spent_s(
    records: Sequence[RequestRecord], recoveries: Sequence[Recovery], request_s: float
) -> dict[str, float]:
    """Mean seconds of completed requests by phase; they sum up to the mean of E2EL."""
    stops: Stops = {}
    for one in recoveries:
        stops.setdefault(one.pipeline, []).append((one.lost_s, one.recovered_s))
    sums = dict.fromkeys((*PHASES, STOPPED), 0.0)
    count = 0
    for record in records:
        if record.status != "completed":
            continue
        count += 1
        ready_s = record.arrival_s + request_s
        begun_s = ready_s if record.begun_s is None else record.begun_s
        at_s = (record.arrival_s, ready_s, begun_s, record.token_s[0], record.token_s[-1])
        for index, phase in enumerate(PHASES):
            sums[phase] += at_s[index + 1] - at_s[index]
        if record.pipeline in stops:
            for index, phase in enumerate(PHASES):
                still_s = _overlap_s(stops[record.pipeline], at_s[index], at_s[index + 1])
                sums[phase] -= still_s
                sums[STOPPED] += still_s
    return {name: total / count for name, total in sums.items()} if count else {}


def _overlap_s(stops: Sequence[tuple[float, float]], start_s: float, stop_s: float) -> float:
    """How long a pipeline stood still between two moments; stops of several stages may overlap."""
    still_s, seen_s = 0.0, -math.inf
    for low_s, high_s in sorted(stops):
        low_s, high_s = max(low_s, start_s, seen_s), min(high_s, stop_s)
        if high_s > low_s:
            still_s += high_s - low_s
            seen_s = high_s
    return still_s
