"""Hops: a pipeline of which every hop of every job is an event; what is exact by construction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.core.cost import Batch, traverse
from planner.core.cost.drafting import drafting_s
from planner.core.cost.traversal import coordinator_s, jobs_of
from planner.core.plan import Pipeline
from planner.core.rng import stream
from planner.core.schedule import Job
from planner.sim.lane import Schedule
from planner.sim.network import Network, Server
from planner.sim.result import Visit
from planner.sim.served import Served, batches_of
from planner.sim.spent import begin
from planner.sim.way import Way

if TYPE_CHECKING:
    from planner.sim.run import Run

_LAST = 2
"""Priority of decisions: after everything else that happens at the same moment, by pipeline."""


@dataclass(slots=True)
class HopLane:
    """One pipeline: its schedule, and its jobs as they go from place to place."""

    run: Run
    index: int
    network: Network
    schedule: Schedule
    coordinator: Server
    visits: list[Visit] | None
    """Where to note them; None where nobody asked."""
    flying: dict[int, Job[Served]] = field(default_factory=dict)
    """Jobs under way, by number."""
    deciding: bool = False
    most_seats: int = 0
    alone: bool = True
    next_s: float = math.inf
    """Everything is an event of the clock."""

    def now(self) -> float:
        """The clock (s)."""
        return self.run.now()

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        """Has ``act`` happen at a moment."""
        self.run.at(when_s, act)

    def advance(self, until_s: float) -> None:
        """Nothing happens here but by the clock."""

    def add(self, sequence: Served, now_s: float) -> None:
        """Puts a sequence in line."""
        self.schedule.add(sequence)
        self.decide(now_s)

    def decide(self, now_s: float) -> None:
        """Sends what can start, once everything that happens at this moment has happened."""
        if not self.deciding:
            self.deciding = True
            self.run.at(now_s, self._send, priority=_LAST + self.index)

    def _send(self) -> None:
        self.deciding = False
        if self.run.failover.stopped(self.index):
            return
        jobs = self.schedule.next_jobs()
        begin(jobs, self.now())
        for sequence in self.schedule.preempted:
            sequence.begin_anew()
            self.run.failover.counts["preemptions"] += 1
        self.most_seats = max(self.most_seats, self.schedule.occupied)
        for job in jobs:
            self._start(job)

    def _start(self, job: Job[Served]) -> None:
        ways = self._ways(job)
        self.flying[ways[-1].number] = job
        own_s = coordinator_s(self.run.problem, ways[0].batches[0])
        _, ready_s = self.coordinator.serve(self.now(), own_s)
        self.network.drafted_s += drafting_s(self.run.problem, ways[0].batches[0])
        ready_s += self._stalled_s(ways[0].batches[0])
        for way in ways:
            self.at(ready_s, way.next_hop)

    def _stalled_s(self, batch: Batch) -> float:
        """What a round of checks in flight waits for places, nothing else being in its way."""
        problem = self.run.problem
        if batch.phase != "decode" or problem.serving.checks_in_flight == 1:
            return 0.0
        stages = tuple(worker.stage for worker in self.network.pipelines[self.index])
        return traverse(problem, Pipeline(stages=stages), batch).stalled_s

    def _ways(self, job: Job[Served]) -> list[Way]:
        """A job's way; where it is a prompt that goes in chunks, one for each."""
        problem, number = self.run.problem, self.run.number
        batches = batches_of(job, problem.serving.checked_tokens, problem.engine.kv_skew)
        if job.phase == "decode" or job.pieces:
            return [Way(self, job, number(), batches)]
        chunks = jobs_of(problem, batches[0], seats=1)
        ways = [
            Way(self, job, number(), (chunk,), tuple(chunks[:index]))
            for index, chunk in enumerate(chunks)
        ]
        for way in ways[:-1]:
            way.part_of = ways[-1].number
        return ways

    def take_back(self, number: int, job: Job[Served]) -> None:
        """Hands out the tokens of a job that is back."""
        self.schedule.back(job)
        del self.flying[number]
        whole = job.phase == "prefill" and not job.pieces
        for sequence in job.sequences:
            tokens = 1 if whole else self._new_tokens(sequence)
            sequence.cached_tokens += sequence.known_tokens if whole else tokens
            self._deliver(sequence, tokens)
        for piece in job.pieces:
            piece.sequence.cached_tokens += piece.tokens
            if piece.completes:
                self._deliver(piece.sequence, 1)
        self.decide(self.now())

    def _deliver(self, sequence: Served, tokens: int) -> None:
        if sequence.token_s is None:
            sequence.first_s, sequence.token_s = self.now(), []
        sequence.token_s.extend([self.now()] * tokens)
        sequence.deliver(tokens, self.now())
        if sequence.left == 0:
            self.schedule.leave(sequence)
            self.run.complete(sequence)

    def _new_tokens(self, sequence: Served) -> int:
        """Tokens that a decode step brings a sequence."""
        speculation = self.run.problem.serving.speculation
        if speculation is None:
            return 1
        if sequence.luck is None:
            sequence.luck = stream(self.network.seed, "speculation", str(sequence.request.id))
        return min(sequence.left, speculation.draw(sequence.luck))

    def drop(self, now_s: float) -> None:
        """Gives up the jobs under way; they are sent again when the pipeline resumes."""
        jobs = list(self.flying.values())
        self.flying = {-1 - place: job for place, job in enumerate(jobs)}

    def resume(self, now_s: float) -> None:
        """Sends again what was dropped, and goes on."""
        jobs = list(self.flying.values())
        self.flying.clear()
        for job in jobs:
            self._start(job)
        self.decide(now_s)

    def evict(self) -> list[Served]:
        """Empties the pipeline; everybody begins anew elsewhere."""
        everyone = self.schedule.evict()
        for sequence in everyone:
            sequence.begin_anew()
        self.flying.clear()
        return everyone

    def cached(self) -> list[int]:
        """Cached tokens of those who have a seat."""
        seated = self.schedule.seated
        return [sequence.cached_tokens for sequence in seated if sequence.cached_tokens]

    def close(self, now_s: float) -> None:
        """Nothing is left to be booked."""
