"""simulate: replays requests through a plan, token by token."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from planner.core.cost.ledger import ledger, parts, total_usd_per_hour
from planner.core.cost.traversal import coordinator_s
from planner.core.metrics import RequestRecord, summarise
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.rng import stream
from planner.core.schedule import Job, PipelineSchedule, route
from planner.core.workload import Request
from planner.sim.accounts import activity, busy_shares
from planner.sim.failover import Failover
from planner.sim.network import Network, build
from planner.sim.result import SimResult, Visit
from planner.sim.way import Served, Way, batch_of, computed_tokens

_LAST = 2
"""Priority of decisions: after everything else that happens at the same moment."""


def simulate(
    problem: Problem,
    plan: Plan,
    seed: int = 0,
    requests: Sequence[Request] | None = None,
    visits: bool = False,
    *,
    own_times: bool = False,
) -> SimResult:
    """What becomes of ``requests`` (the workload's own, by default) under ``plan``.

    ``own_times`` lets requests come at their own times where the workload is a closed loop.

    The same problem, plan and seed give the same result. Raises LookupError where a hop of the
    plan has no link.
    """
    given = problem.workload.sample(seed) if requests is None else requests
    run = Run(problem, plan, build(problem, plan, seed), visits)
    run.replay(given, None if own_times else problem.workload.concurrency)
    return run.result()


@dataclass(slots=True)
class Run:
    """One run over a network; simpy keeps the clock."""

    problem: Problem
    plan: Plan
    network: Network
    keep_visits: bool
    env: simpy.Environment = field(default_factory=simpy.Environment)
    records: list[RequestRecord] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    events: int = 0
    jobs: int = 0
    failover: Failover = field(init=False)
    flying: list[dict[int, Job[Served]]] = field(default_factory=list)
    """By pipeline: jobs under way, by number."""
    evicted_tokens: int = 0
    """Tokens in caches that were given up because their requests began anew elsewhere."""
    unresolved: int = 0
    """Requests that have neither been completed nor failed."""

    schedules: list[PipelineSchedule[Served]] = field(default_factory=list)
    assigned: list[int] = field(default_factory=list)
    coming: deque[Request] = field(default_factory=deque)
    deciding: set[int] = field(default_factory=set)
    seated: list[int] = field(default_factory=list)
    most_seated: list[int] = field(default_factory=list)
    closed: bool = False
    lasted_s: float = 0.0
    """When the last thing happened, or the horizon if something was still to happen."""

    def replay(self, requests: Sequence[Request], concurrency: int | None) -> None:
        """Lets every request arrive and runs until nothing is left to happen."""
        self.schedules = [
            PipelineSchedule(pipeline.max_num_seqs, pipeline.micro_batches)
            for pipeline in self.plan.pipelines
        ]
        self.assigned = [0] * len(self.schedules)
        self.seated, self.most_seated = self.assigned.copy(), self.assigned.copy()
        self.flying = [{} for _ in self.schedules]
        self.coming.extend(requests)
        self.unresolved = len(requests)
        self.failover = Failover(self.problem, self.plan, self.network, self)
        self.failover.watch()
        self.closed = concurrency is not None
        if concurrency is None:
            self._expect_next()
        for _ in range(concurrency or 0):
            self._next_of_user()
        end_s = self.problem.workload.horizon_s
        while self.unresolved and self.env.peek() < (math.inf if end_s is None else end_s):
            self.env.step()
        self.lasted_s = end_s if self.unresolved and end_s is not None else self.env.now

    def result(self) -> SimResult:
        """Metrics, costs and utilisation of what happened."""
        now_s = max(self.lasted_s, 1e-12)
        away_s = self.failover.away(now_s)
        lines = ledger(
            self.problem, self.plan, activity(self.network, now_s, away_s, self._lost_share())
        )
        counted = self.records[self.problem.workload.warmup_requests :]
        must = self.problem.requirements.must_have
        metrics = summarise(
            counted,
            must.latency_bounds_s(),
            total_usd_per_hour(lines),
            self.problem.deployment.in_use,
        )
        stages, links = busy_shares(self.network, now_s)
        return SimResult(
            records=self.records,
            metrics=metrics,
            cost=parts(lines),
            cost_lines=lines,
            events={
                name: self.failover.counts[name] for name in ("failures", "failovers", "retries")
            },
            simulated_s=self.lasted_s,
            event_count=self.events,
            stage_busy=stages,
            link_busy=links,
            most_seated=tuple(self.most_seated),
            recoveries=tuple(self.failover.recoveries),
            away_s=away_s,
            visits=tuple(sorted(self.visits, key=lambda visit: (visit.began_s, visit.job))),
        )

    def _lost_share(self) -> float:
        """Share of the computed tokens that nobody got: of requests that failed or began anew."""
        failed = sum(
            record.prompt_tokens + record.output_tokens
            for record in self.records
            if record.status == "failed" and record.token_s
        )
        given = sum(
            record.prompt_tokens + record.output_tokens
            for record in self.records
            if record.status != "failed" and record.token_s
        )
        lost = failed + self.evicted_tokens
        return lost / (lost + given) if lost else 0.0

    def at(self, when_s: float, act: Callable[[], None], priority: int = 1) -> None:
        """Has ``act`` happen at a moment, after what was planned for it before."""
        if when_s == math.inf:
            return
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [lambda _: self._happen(act)]
        delay: Any = max(0.0, when_s - self.env.now)
        self.env.schedule(event, priority=priority, delay=delay)  # type: ignore[arg-type]

    def _happen(self, act: Callable[[], None]) -> None:
        self.events += 1
        act()

    def _expect_next(self) -> None:
        """Waits for the next request of an open workload."""
        if self.coming:
            request = self.coming.popleft()

            def arrive() -> None:
                self._arrive(request)
                self._expect_next()

            self.at(request.arrival_s, arrive)

    def _next_of_user(self) -> None:
        """Sends a user's next request; one that is refused is followed by another at once."""
        while self.coming and not self._arrive(self.coming.popleft()):
            pass

    def _arrive(self, request: Request) -> bool:
        """Routes a request and has it wait once it is tokenised; False if it can never fit."""
        index = route(self.plan, self.assigned, self.failover.hopeful)
        self.assigned[index] += 1
        record = RequestRecord(request.id, index, request.prompt_tokens, self.env.now)
        self.records.append(record)
        needed = request.prompt_tokens + request.output_tokens
        if needed > self.problem.tokens_per_request:
            room = self.problem.tokens_per_request
            self._fail(record, f"{needed} tokens do not fit a seat of {room}")
            return False
        sequence = Served(record, request.output_tokens)
        ready_s = self.env.now + self.problem.engine.request_s

        self.at(ready_s, lambda: self._wait(sequence))
        return True

    def _wait(self, sequence: Served) -> None:
        """Puts a sequence in line; where no pipeline works, only until it loses patience."""
        if sequence.record.pipeline not in self.failover.hopeful:
            self._assign(sequence, self.failover.hopeful)
        index = sequence.record.pipeline
        self.schedules[index].add(sequence)
        self._decide(index)
        if index in self.failover.hopeless:
            patience_s = self.problem.serving.patience_s
            self.at(self.env.now + patience_s, lambda: self._lose_patience(sequence))

    def _lose_patience(self, sequence: Served) -> None:
        index = sequence.record.pipeline
        if index in self.failover.hopeless and self.schedules[index].withdraw(sequence):
            self._fail(sequence.record, "no pipeline has all its nodes")
            self._next_if_closed()

    def _assign(self, sequence: Served, among: Sequence[int]) -> int:
        index = route(self.plan, self.assigned, among)
        self.assigned[index] += 1
        sequence.record.pipeline = index
        return index

    def _fail(self, record: RequestRecord, reason: str) -> None:
        record.status, record.reason = "failed", reason
        self.unresolved -= 1

    def _next_if_closed(self) -> None:
        if self.closed:
            self._next_of_user()

    def _decide(self, index: int) -> None:
        """Sends what can start, once everything that happens at this moment has happened."""
        if index not in self.deciding:
            self.deciding.add(index)
            self.at(self.env.now, lambda: self._send(index), priority=_LAST)

    def _send(self, index: int) -> None:
        self.deciding.discard(index)
        if self.failover.stopped(index):
            return
        for job in self.schedules[index].next_jobs():
            if job.phase == "prefill":
                self.seated[index] += 1
                self.most_seated[index] = max(self.most_seated[index], self.seated[index])
            self._start(index, job)

    def _start(self, index: int, job: Job[Served]) -> None:
        self.jobs += 1
        self.flying[index][self.jobs] = job
        way = Way(self, index, job, self.jobs, batch_of(job, self.problem.serving.checked_tokens))
        own_s = coordinator_s(self.problem, way.batch)
        _, ready_s = self.network.coordinator.serve(self.env.now, own_s)
        self.at(ready_s, way.next_hop)

    def now(self) -> float:
        """The clock (s)."""
        return float(self.env.now)

    def interrupt(self, index: int, node: str) -> None:
        """Gives up the jobs under way in a pipeline; they are sent again when it resumes."""
        jobs = list(self.flying[index].values())
        self.flying[index] = {-1 - place: job for place, job in enumerate(jobs)}
        self.visits = [
            visit for visit in self.visits if visit.place != node or visit.ended_s <= self.env.now
        ]

    def resume(self, index: int) -> None:
        """Sends the interrupted jobs of a pipeline again and goes on."""
        jobs = list(self.flying[index].values())
        self.flying[index].clear()
        for job in jobs:
            self._start(index, job)
        self._decide(index)

    def move(self, index: int) -> int:
        """Has the sequences of a pipeline begin anew in whole ones; how many had a seat."""
        self.evicted_tokens += sum(self.cached(index))
        seated, everyone = len(self.schedules[index].seated), self._evict(index)
        for sequence in everyone:
            chosen = self._assign(sequence, self.failover.whole)
            self.schedules[chosen].add(sequence)
            self._decide(chosen)
        return seated

    def fail(self, index: int, reason: str) -> None:
        """Fails all sequences of a pipeline."""
        everyone = self._evict(index)
        for sequence in everyone:
            self._fail(sequence.record, reason)
        for _ in everyone:
            self._next_if_closed()

    def cached(self, index: int) -> list[int]:
        """Cached tokens of the seated sequences of a pipeline."""
        seated = self.schedules[index].seated
        return [sequence.cached_tokens for sequence in seated if sequence.cached_tokens]

    def _evict(self, index: int) -> list[Served]:
        everyone = self.schedules[index].evict()
        for sequence in everyone:
            sequence.cached_tokens = 0
        self.flying[index].clear()
        self.seated[index] = 0
        return everyone

    def take_back(self, index: int, number: int, job: Job[Served]) -> None:
        """Hands out the tokens of a job that is back."""
        schedule = self.schedules[index]
        schedule.back(job)
        del self.flying[index][number]
        for sequence in job.sequences:
            record = sequence.record
            tokens = self._new_tokens(job, sequence)
            sequence.cached_tokens += (
                computed_tokens(sequence) if job.phase == "prefill" else tokens
            )
            record.token_s.extend([self.env.now] * tokens)
            sequence.left -= tokens
            if sequence.left == 0:
                record.status = "completed"
                schedule.leave(sequence)
                self.seated[index] -= 1
                self.unresolved -= 1
                self._next_if_closed()
        self._decide(index)

    def _new_tokens(self, job: Job[Served], sequence: Served) -> int:
        """Tokens that a job brings a sequence."""
        speculation = self.problem.serving.speculation
        if speculation is None or job.phase == "prefill":
            return 1
        if sequence.luck is None:
            sequence.luck = stream(self.network.seed, "speculation", str(sequence.record.id))
        return min(sequence.left, speculation.draw(sequence.luck))
