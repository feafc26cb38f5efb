"""Replicas: runs in which nothing but requests ever happens, served request by request.

The lanes of ``sim/lanes.py`` can do all that is done here, and do it where this is not enough.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from planner.core.continuous import ContinuousSchedule
from planner.core.outcomes import STATUSES, Outcomes
from planner.core.request import Request, Requests
from planner.sim.circle import Columns
from planner.sim.lane import Lane
from planner.sim.replica import Replica
from planner.sim.rows import RowLane

if TYPE_CHECKING:
    from planner.sim.run import Run


_OFTEN = 1024
"""Requests after which gaps are sorted into bins if there are many."""


def simple(run: Run, requests: Sequence[Request]) -> Requests | None:
    """The columns of requests, where nothing but them can happen in a run that has not begun.

    They come at their own times, each by itself, and all fit; nodes stay, and the run goes on until
    all have been answered. Every pipeline has one group, vLLM's rules, and a coordinator of which
    nothing else asks anything.
    """
    watched = run.watch is not None or run.problem.workload.horizon_s is not None
    if watched or not requests or run.env.peek() < math.inf:
        return None
    if not all(
        isinstance(lane, RowLane) and isinstance(lane.schedule, ContinuousSchedule)
        for lane in run.lanes
    ):
        return None
    columns = Requests.of(requests)
    if columns is None or (np.diff(columns.arrival_s) < 0).any():
        return None
    longest = np.add(columns.prompt_tokens, columns.output_tokens).max()
    return columns if longest <= min(run.rooms) else None


def served(run: Run, requests: Requests) -> Outcomes:
    """What becomes of requests in a run that is simple."""
    columns = Columns(
        array("d", (at_s + run.request_s for at_s in requests.arrival_s)),
        requests.prompt_tokens[:],
        requests.output_tokens[:],
    )
    replicas = [_replica(run, lane, columns) for lane in run.lanes]
    _replay(run, requests.arrival_s, columns, replicas)
    found = Outcomes(
        id=np.asarray(requests.id),
        pipeline=np.asarray(columns.pipeline),
        prompt_tokens=np.asarray(requests.prompt_tokens),
        output_tokens=np.asarray(requests.output_tokens),
        arrival_s=np.asarray(requests.arrival_s),
        begun_s=np.asarray(columns.begun_s),
        first_s=np.asarray(columns.first_s),
        last_s=np.asarray(columns.last_s),
        status=np.full(len(requests), STATUSES.index("completed")),
    )
    _note(run, found, replicas)
    return found


def _replica(run: Run, lane: Lane, columns: Columns) -> Replica:
    schedule = lane.schedule
    assert isinstance(lane, RowLane)
    assert isinstance(schedule, ContinuousSchedule)
    return Replica(
        columns,
        lane.pace,
        seats=schedule.seats,
        budget=schedule.budget,
        blocks=schedule.pool.blocks,
        block=schedule.pool.block_tokens,
        keeps=schedule.pool.keeps,
        skew=lane.skew,
        warmup=run.warmup,
        runs=run.gaps.runs,
        normals=lane.normals,
        leave=partial(run.router.leave, lane.index),
    )


def _replay(
    run: Run, arrival_s: Sequence[float], columns: Columns, replicas: Sequence[Replica]
) -> None:
    """Sends every request to a pipeline and lets them all be answered."""
    assign, gaps, pipeline, ready_s = run.router.assign, run.gaps, columns.pipeline, columns.ready_s
    processes = [replica.serve() for replica in replicas]
    lines = [replica.line for replica in replicas]
    next_s = [next(process) for process in processes]
    go_on = [process.send for process in processes]
    for number, now_s in enumerate(arrival_s):
        for index, due_s in enumerate(next_s):
            if due_s < now_s:
                next_s[index] = go_on[index](now_s)
        index = pipeline[number] = assign()
        lines[index].append(number)
        if ready_s[number] < next_s[index]:
            next_s[index] = ready_s[number]
        if not number % _OFTEN:
            gaps.settle()
    for send in go_on:
        send(math.inf)


def _note(run: Run, found: Outcomes, replicas: Sequence[Replica]) -> None:
    """Puts what happened on the run's books."""
    run.unresolved = 0
    run.lasted_s = float(found.last_s.max())
    run.presence_s = float((found.last_s - found.arrival_s).sum())
    asked = np.bincount(found.pipeline, found.prompt_tokens, len(replicas))
    for lane, replica, tokens in zip(run.lanes, replicas, asked, strict=True):
        lane.schedule.asked_tokens = int(tokens) + replica.asked_again
        lane.schedule.reused_tokens = replica.reused
        run.failover.counts["preemptions"] += replica.preempted
        run.happened += replica.happened
        lane.most_seats = replica.most_seats
    run.close()
