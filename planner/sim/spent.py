"""Spent: where the time of requests went, from their arrival to their last token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from planner.core.metrics import RequestRecord
from planner.core.outcomes import completed
from planner.core.schedule import Job
from planner.sim.result import Recovery
from planner.sim.served import Served

PHASES = ("tokenising", "waiting", "prompt", "answer")
"""Until it can be scheduled, until its first job, until its first token, until its last one."""
STOPPED = "lost nodes"
"""While its pipeline stood still until a lost stage was taken over, whatever the phase."""


def begin(jobs: Iterable[Job[Served]], now_s: float) -> None:
    """Notes when requests have their first job."""
    for job in jobs:
        if job.phase == "prefill":
            begun = [piece.sequence for piece in job.pieces] if job.pieces else job.sequences
            for sequence in begun:
                if sequence.begun_s == math.inf:
                    sequence.begun_s = now_s


def spent_s(
    records: Sequence[RequestRecord], recoveries: Sequence[Recovery], request_s: float
) -> dict[str, float]:
    """Mean seconds of completed requests by phase; they sum up to the mean of E2EL."""
    done = completed(records)
    if not len(done):
        return {}
    ready_s = done.arrival_s + request_s
    begun_s = np.where(np.isinf(done.begun_s), ready_s, done.begun_s)
    at_s = (done.arrival_s, ready_s, begun_s, done.first_s, done.last_s)
    spent = {
        phase: float((after_s - before_s).sum())
        for phase, (before_s, after_s) in zip(PHASES, pairwise(at_s), strict=True)
    }
    spent[STOPPED] = 0.0
    for pipeline, start_s, stop_s in _stops(recoveries):
        here = done.pipeline == pipeline
        for phase, (before_s, after_s) in zip(PHASES, pairwise(at_s), strict=True):
            within_s = np.minimum(after_s[here], stop_s) - np.maximum(before_s[here], start_s)
            still_s = float(np.maximum(0.0, within_s).sum())
            spent[phase] -= still_s
            spent[STOPPED] += still_s
    return {name: total_s / len(done) for name, total_s in spent.items()}


def _stops(recoveries: Sequence[Recovery]) -> Iterator[tuple[int, float, float]]:
    """Pipelines and when they stood still; stops of several stages that overlap are one."""
    seen_s: dict[int, float] = {}
    for one in sorted(recoveries, key=lambda one: (one.lost_s, one.recovered_s)):
        start_s = max(one.lost_s, seen_s.get(one.pipeline, 0.0))
        if one.recovered_s > start_s:
            yield one.pipeline, start_s, one.recovered_s
            seen_s[one.pipeline] = one.recovered_s
