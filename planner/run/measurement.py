"""Measurement: what came of a run, by request, by stage and by hop."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from planner.core.cluster import Cluster
from planner.core.drift import Speeds
from planner.core.forecast import Rehearsal
from planner.core.metrics import RequestRecord
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem
from planner.run.crew import Post, Worker, WorkerLostError
from planner.run.drafts import DraftTally
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.losses import Absence, Recovered
from planner.run.oversight import Verified
from planner.run.steps import Hop, Step, hops

_ANSWER_S = 5.0
_CLOCK_EXCHANGES = 8

Report = Mapping[tuple[Post, str], Sequence[Step]]
"""Steps by stage and node, in the order of time."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """What one stage did."""

    pipeline: int
    stage: Stage
    weight_bytes: int
    cache_bytes: int
    kernels: dict[str, Any]
    """Matrix products chosen by the race, by number format."""
    load_s: float
    """What it took to hold the stage, the choice of kernels included."""
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class HopRun:
    """Ways of jobs from one node to the next, where the receiver was waiting for them."""

    pipeline: int
    src: str
    dst: str
    hops: list[Hop]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What came of a run; seconds count from its start."""

    records: list[RequestRecord]
    prompts: dict[int, list[int]]
    """Token ids by request; none for a request that found no room."""
    outputs: dict[int, list[int]]
    """Token ids by request."""
    texts: dict[int, str]
    stages: list[StageRun]
    hops: list[HopRun]
    coordinator: list[list[Step]]
    """By pipeline: each job's own time at the coordinator."""
    threads: int
    """Compute threads of each worker."""
    returned: list[list[Step]] = field(default_factory=list)
    """By pipeline: each job's tokens as they came back to the coordinator."""
    requests: list[dict[int, tuple[int, ...]]] = field(default_factory=list)
    """By pipeline: ids of the requests that each job serves."""
    drafted: list[list[Step]] = field(default_factory=list)
    """By pipeline: what the draft read and guessed at the coordinator."""
    drafts: list[DraftTally] = field(default_factory=list)
    """By pipeline: how guesses turned out."""
    recoveries: list[Recovered] = field(default_factory=list)
    """Stages that were lost and came to work again."""
    absences: list[Absence] = field(default_factory=list)
    speeds: Mapping[str, Speeds] = field(default_factory=dict)
    """What the nodes were found to reach at the start, where that was asked for."""
    paces: Mapping[str, Rehearsal] = field(default_factory=dict)
    """Steps of their own stages that they made then."""
    verified: Verified | None = None
    """What receipts and audits came to, where they were asked for."""


def measured(
    problem: Problem,
    fleet: Fleet,
    session: Session,
    reports: Report,
    paces: Mapping[str, Rehearsal] | None = None,
) -> Measurement:
    """What came of a session that has ended, in the order of arrival; nothing is spelt yet.

    ``paces`` are steps that nodes made before it.
    """
    origin_s, own = session.start_s, session.desk.coordination
    home, speeds = problem.cluster.coordinator, dict(fleet.speeds)
    paces, here = paces or {}, fleet.speeds_here()
    if home in paces and here:
        speeds.setdefault(home, here)
    return Measurement(
        records=list(session.records.values()),
        prompts=session.prompts,
        outputs=session.outputs,
        texts={},
        stages=stage_runs(fleet, reports, origin_s),
        hops=hop_runs(problem.cluster, fleet.plan, session, reports),
        coordinator=[[step.after(origin_s) for step in one.sent] for one in own],
        threads=fleet.settings.threads,
        returned=[[step.after(origin_s) for step in one.returned] for one in own],
        requests=[one.requests for one in own],
        drafted=[[step.after(origin_s) for step in one.drafted] for one in own],
        drafts=[one.tally for one in own],
        recoveries=recoveries(session),
        absences=absences(session),
        speeds=speeds,
        paces=paces,
    )


def stage_runs(fleet: Fleet, reports: Report, origin_s: float) -> list[StageRun]:
    """What the stages report, on a clock that starts at ``origin_s``, by who held them."""
    holders = {(post, worker.node): worker for post, worker in fleet.holders.items()}
    past = {(post, worker.node): worker for worker in fleet.spawned for post, _ in worker.steps}
    return [
        StageRun(
            pipeline=post[0],
            stage=fleet.stage(post).model_copy(update={"node": node}),
            weight_bytes=worker.weight_bytes,
            cache_bytes=worker.cache_bytes,
            kernels=worker.kernels,
            load_s=worker.load_s,
            steps=[
                step.after(origin_s)
                for step in reports.get((post, node), ())
                if step.received_s >= origin_s
            ],
        )
        for (post, node), worker in sorted((past | holders).items(), key=lambda one: one[0])
    ]


def crowded(problem: Problem, run: StageRun, step: Step, runs: Sequence[StageRun]) -> bool:
    """Whether a host's cores were all taken by other stages at some time during a step."""
    host = problem.cluster.node(run.stage.node).host
    at_once = problem.cluster.device(run.stage.node).workers_at_once
    if not host or at_once is None:
        return False
    beside = (
        other
        for other in runs
        if other is not run and problem.cluster.node(other.stage.node).host == host
    )
    return sum(_works_during(other.steps, step) for other in beside) >= at_once


def _works_during(steps: Sequence[Step], other: Step) -> bool:
    """Whether one of a stage's steps, which follow each other, overlaps with another's step."""
    before = bisect_left(steps, other.computed_s, key=lambda step: step.received_s)
    return before > 0 and steps[before - 1].computed_s > other.received_s


def hop_runs(cluster: Cluster, plan: Plan, session: Session, reports: Report) -> list[HopRun]:
    """Every hop of every pipeline, from the coordinator through the stages and back to it."""
    runs = []
    for index, (pipeline, own) in enumerate(
        zip(plan.pipelines, session.desk.coordination, strict=True)
    ):
        stages = (of_stage(reports, (index, stage)) for stage in range(len(pipeline.stages)))
        logs = [own.sent, *stages, own.returned]
        route = [cluster.coordinator, *pipeline.nodes, cluster.coordinator]
        for (src, dst), (sent, received) in zip(pairwise(route), pairwise(logs), strict=True):
            known = {step.job for step in own.sent}
            mine = [hop for hop in hops(sent, received) if hop.job in known]
            runs.append(HopRun(index, src, dst, mine))
    return runs


def recoveries(session: Session) -> list[Recovered]:
    """What was lost and recovered, on the session's clock."""
    if session.failover is None:
        return []
    origin_s = session.start_s
    return [
        one._replace(
            lost_s=one.lost_s - origin_s,
            found_s=one.found_s - origin_s,
            recovered_s=one.recovered_s - origin_s,
            replays=tuple(step.after(origin_s) for step in one.replays),
        )
        for one in session.failover.recoveries
    ]


def absences(session: Session) -> list[Absence]:
    """Which nodes were away when, on the session's clock."""
    if session.failover is None:
        return []
    origin_s = session.start_s
    return [
        one._replace(gone_s=one.gone_s - origin_s, back_s=one.back_s - origin_s)
        for one in session.failover.absences
    ]


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
