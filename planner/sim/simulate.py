"""simulate: replays requests through a plan, token by token."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from planner.core.cost import Batch
from planner.core.cost.traversal import coordinator_s, payloads_bytes
from planner.core.metrics import RequestRecord, summarise
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.rng import stream
from planner.core.schedule import Job, PipelineSchedule, route
from planner.core.workload import Request
from planner.sim.accounts import busy_shares, usd_per_hour
from planner.sim.network import Network, build
from planner.sim.result import SimResult, Visit

_LAST = 2
"""Priority of decisions: after everything else that happens at the same moment."""


@dataclass(slots=True, eq=False)
class _Sequence:
    """A request on its way; ``left`` is known to the oracle only."""

    record: RequestRecord
    left: int
    cached_tokens: int = 0
    slot: int = -1
    group: int = -1
    luck: random.Random | None = None
    """Decides which drafts are accepted."""


def simulate(
    problem: Problem,
    plan: Plan,
    seed: int = 0,
    requests: Sequence[Request] | None = None,
    visits: bool = False,
) -> SimResult:
    """What becomes of ``requests`` (the workload's own, by default) under ``plan``.

    The same problem, plan and seed give the same result. Raises LookupError where a hop of the
    plan has no link.
    """
    given = problem.workload.sample(seed) if requests is None else requests
    run = _Run(problem, plan, build(problem, plan, seed), visits, seed)
    run.replay(given, problem.workload.concurrency)
    return run.result()


@dataclass(slots=True)
class _Run:
    """One run over a network; simpy keeps the clock."""

    problem: Problem
    plan: Plan
    network: Network
    keep_visits: bool
    seed: int = 0
    env: simpy.Environment = field(default_factory=simpy.Environment)
    records: list[RequestRecord] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    events: int = 0
    jobs: int = 0

    schedules: list[PipelineSchedule[_Sequence]] = field(default_factory=list)
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
        self.coming.extend(requests)
        self.closed = concurrency is not None
        if concurrency is None:
            self._expect_next()
        for _ in range(concurrency or 0):
            self._next_of_user()
        end_s = self.problem.workload.horizon_s
        while self.env.peek() < (math.inf if end_s is None else end_s):
            self.env.step()
        still_running = self.env.peek() < math.inf
        self.lasted_s = end_s if still_running and end_s is not None else self.env.now

    def result(self) -> SimResult:
        """Metrics, costs and utilisation of what happened."""
        now_s = max(self.lasted_s, 1e-12)
        parts = usd_per_hour(self.problem, self.plan, self.network, now_s)
        counted = self.records[self.problem.workload.warmup_requests :]
        must = self.problem.requirements.must_have
        metrics = summarise(counted, must.latency_bounds_s(), sum(parts.values()))
        stages, links = busy_shares(self.network, now_s)
        return SimResult(
            records=self.records,
            metrics=metrics,
            cost=parts,
            events={"failures": 0, "failovers": 0, "retries": 0},
            simulated_s=self.lasted_s,
            event_count=self.events,
            stage_busy=stages,
            link_busy=links,
            most_seated=tuple(self.most_seated),
            visits=tuple(sorted(self.visits, key=lambda visit: (visit.began_s, visit.job))),
        )

    def _at(self, when_s: float, act: Callable[[], None], priority: int = 1) -> None:
        """Has ``act`` happen at a moment, after what was planned for it before."""
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

            self._at(request.arrival_s, arrive)

    def _next_of_user(self) -> None:
        """Sends a user's next request; one that is refused is followed by another at once."""
        while self.coming and not self._arrive(self.coming.popleft()):
            pass

    def _arrive(self, request: Request) -> bool:
        """Routes a request and has it wait once it is tokenised; False if it can never fit."""
        index = route(self.plan, self.assigned)
        self.assigned[index] += 1
        record = RequestRecord(request.id, index, request.prompt_tokens, self.env.now)
        self.records.append(record)
        needed = request.prompt_tokens + request.output_tokens
        if needed > self.problem.tokens_per_request:
            record.status = "failed"
            record.reason = (
                f"{needed} tokens do not fit a seat of {self.problem.tokens_per_request}"
            )
            return False
        sequence = _Sequence(record, request.output_tokens)
        ready_s = self.env.now + self.problem.engine.request_s

        def wait() -> None:
            self.schedules[index].add(sequence)
            self._decide(index)

        self._at(ready_s, wait)
        return True

    def _decide(self, index: int) -> None:
        """Sends what can start, once everything that happens at this moment has happened."""
        if index not in self.deciding:
            self.deciding.add(index)
            self._at(self.env.now, lambda: self._send(index), priority=_LAST)

    def _send(self, index: int) -> None:
        self.deciding.discard(index)
        for job in self.schedules[index].next_jobs():
            if job.phase == "prefill":
                self.seated[index] += 1
                self.most_seated[index] = max(self.most_seated[index], self.seated[index])
            self.jobs += 1
            way = _Way(self, index, job, self.jobs, self._batch(job))
            own_s = coordinator_s(self.problem, way.batch)
            _, ready_s = self.network.coordinator.serve(self.env.now, own_s)
            self._at(ready_s, way.next_hop)

    def take_back(self, index: int, job: Job[_Sequence]) -> None:
        """Hands out the tokens of a job that is back."""
        schedule = self.schedules[index]
        schedule.back(job)
        for sequence in job.sequences:
            record = sequence.record
            tokens = 1 if job.phase == "prefill" else self._tokens(sequence)
            record.token_s.extend([self.env.now] * tokens)
            sequence.left -= tokens
            sequence.cached_tokens += record.prompt_tokens if job.phase == "prefill" else tokens
            if sequence.left == 0:
                record.status = "completed"
                schedule.leave(sequence)
                self.seated[index] -= 1
                if self.closed:
                    self._next_of_user()
        self._decide(index)

    def _batch(self, job: Job[_Sequence]) -> Batch:
        if job.phase == "prefill":
            return Batch.prefill(job.sequences[0].record.prompt_tokens)
        cached = sum(sequence.cached_tokens for sequence in job.sequences)
        return Batch.decode(len(job.sequences), cached, self.problem.serving.checked_tokens)

    def _tokens(self, sequence: _Sequence) -> int:
        """Tokens that a decode step brings a sequence."""
        speculation = self.problem.serving.speculation
        if speculation is None:
            return 1
        if sequence.luck is None:
            sequence.luck = stream(self.seed, "speculation", str(sequence.record.id))
        return min(sequence.left, speculation.draw(sequence.luck))


@dataclass(slots=True)
class _Way:
    """A job's way: wire, stage, wire, stage, ..., wire back."""

    run: _Run
    index: int
    job: Job[_Sequence]
    number: int
    batch: Batch
    hop: int = -1
    payloads: tuple[float, ...] = ()

    def next_hop(self) -> None:
        """Goes onto the wire to the next stage, or to the coordinator."""
        run = self.run
        if not self.payloads:
            pipeline = run.plan.pipelines[self.index]
            self.payloads = payloads_bytes(run.problem, pipeline, self.batch)
        self.hop += 1
        wire = run.network.routes[self.index][self.hop]
        now_s = run.env.now
        began_s, arrives_s = wire.send(
            run.problem, now_s, self.payloads[self.hop], self.batch.phase
        )
        self._note(f"{wire.src} -> {wire.dst}", now_s, began_s, arrives_s)
        run._at(arrives_s, self._next(run))

    def compute(self) -> None:
        """Waits for the stage and has it compute."""
        run = self.run
        worker = run.network.pipelines[self.index][self.hop]
        came_s = run.env.now

        def computed() -> None:
            worker.end(run.env.now)
            self.next_hop()

        def started(began_s: float, ends_s: float) -> None:
            self._note(worker.stage.node, came_s, began_s, ends_s)
            run._at(ends_s, computed)

        worker.compute(came_s, self.batch, started)

    def _next(self, run: _Run) -> Callable[[], None]:
        """What follows the hop just made: a stage, a relay, or home."""
        if self.hop < len(run.network.pipelines[self.index]):
            return self.compute
        last = self.hop == len(run.network.routes[self.index]) - 1
        return self.return_home if last else self.next_hop

    def return_home(self) -> None:
        """Brings the tokens to the coordinator."""
        self.run.take_back(self.index, self.job)

    def _note(self, place: str, came_s: float, began_s: float, ended_s: float) -> None:
        if self.run.keep_visits:
            self.run.visits.append(Visit(place, self.number, came_s, began_s, ended_s))
