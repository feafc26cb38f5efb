"""Reports: what was done at every stage, by whom, on the coordinator's clock."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from planner.run.crew import Post, Worker, WorkerLostError
from planner.run.fleet import Fleet
from planner.run.steps import Step

_ANSWER_S = 5.0
_CLOCK_EXCHANGES = 8

Report = Mapping[tuple[Post, str], Sequence[Step]]
"""Steps by stage and node, in the order of time."""


def report(fleet: Fleet) -> dict[tuple[Post, str], list[Step]]:
    """What all workers did; those that were lost have told what they did until shortly before."""
    done: dict[tuple[Post, str], list[Step]] = {}
    for worker in fleet.spawned:
        here = worker.place.host == fleet.place(fleet.home).host
        ahead_s = 0.0 if here else worker.ahead_s
        if not worker.lost and worker.post is not None:
            with contextlib.suppress(WorkerLostError):
                worker.ask({"report": True}, "steps", _ANSWER_S)
                ahead_s = 0.0 if here else _ahead_s(worker)
        for post, step in worker.steps:
            done.setdefault((post, worker.node), []).append(step.after(ahead_s))
    for steps in done.values():
        steps.sort(key=lambda step: step.received_s)
    return done


def of_stage(found: Report, post: Post) -> list[Step]:
    """The steps of a stage, whoever made them."""
    mine = [step for (where, _), steps in found.items() if where == post for step in steps]
    return sorted(mine, key=lambda step: step.received_s)


def _ahead_s(worker: Worker) -> float:
    """How far the clock of a worker's host is ahead of this one's.

    By the exchange that took least time, as NTP has it (RFC 5905): wrong by at most half of
    that time.
    """
    found = []
    for _ in range(_CLOCK_EXCHANGES):
        asked_s = time.monotonic()
        theirs_s = worker.ask({"beat": 1}, "clock_s", _ANSWER_S)["clock_s"]
        took_s = time.monotonic() - asked_s
        found.append((took_s, theirs_s - asked_s - took_s / 2))
    return float(min(found)[1])
