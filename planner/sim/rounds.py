"""Rounds: a pipeline whose jobs are computed whole.

Nothing but the jobs of a pipeline uses its stages and wires, and they pass them in one order. So a
job's whole way is known when it starts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.core.gaps import Gaps
from planner.core.schedule import Job
from planner.sim.cohort import Cohort
from planner.sim.lane import Schedule
from planner.sim.network import Latency, Network, Server
from planner.sim.pace import Load, Pace
from planner.sim.served import Served
from planner.sim.spent import begin
from planner.sim.track import Flight, Track

if TYPE_CHECKING:
    from planner.sim.run import Run


@dataclass(slots=True)
class RoundLane:
    """One pipeline: its schedule, its sequences by their sums, and what is under way."""

    run: Run
    index: int
    network: Network
    schedule: Schedule
    groups: int
    gaps: Gaps
    coordinator: Server
    alone: bool
    """Whether the coordinator works for this pipeline only."""
    pace: Pace = field(init=False)
    track: Track = field(init=False)
    paces: dict[tuple[str, ...], Pace] = field(default_factory=dict)
    """By the nodes that held the stages."""
    cohorts: list[Cohort] = field(init=False)
    flights: deque[Flight] = field(default_factory=deque)
    """In the order in which they come back."""
    dropped: list[Job[Served]] = field(default_factory=list)
    """Jobs that were lost under way and will be sent again."""
    skew: float = field(init=False)
    decide_s: float = math.inf
    most_seats: int = 0
    next_s: float = math.inf
    """When something happens next."""

    def __post_init__(self) -> None:
        self.skew = self.run.problem.engine.kv_skew
        self.cohorts = [Cohort(self.gaps) for _ in range(self.groups)]
        self._settle_on_nodes()

    def _settle_on_nodes(self) -> None:
        workers = self.network.pipelines[self.index]
        nodes = tuple(worker.stage.node for worker in workers)
        if nodes not in self.paces:
            self.paces[nodes] = Pace(self.run.problem, workers, self.network.routes[self.index])
        self.pace = self.paces[nodes]
        self.track = Track(self.pace)

    def add(self, sequence: Served, now_s: float) -> None:
        """Puts a sequence in line, and has the schedule asked as soon as something can start."""
        self.schedule.add(sequence)
        if not self.flights or self.groups > 1:
            self.decide_s = now_s
            self._expect()

    def _expect(self) -> None:
        flights, next_s = self.flights, self.decide_s
        if flights and flights[0].ends_s < next_s:
            next_s = flights[0].ends_s
        self.next_s = next_s

    def advance(self, until_s: float) -> None:
        """Lets happen what happens before then, or until a user's next request is to come."""
        run = self.run
        while self.next_s < until_s:
            now_s = run.clock_s = self.next_s
            if run.watch is not None:
                run.watch.tick(self.index, now_s)
            if self._land(now_s) and run.closed:
                self._expect()
                return
            if self.decide_s <= now_s:
                self._send(now_s)
            self._expect()

    def _land(self, now_s: float) -> bool:
        """Takes back what comes back now; whether somebody finished."""
        flights, finished = self.flights, False
        while flights and flights[0].ends_s <= now_s:
            flight = flights.popleft()
            for chunk in flight.ahead:
                self.pace.note(chunk.load)
                if self.run.watch is not None:
                    self.run.watch.see_flight(self.pace, chunk, now_s)
            self.pace.note(flight.load)
            if self.run.watch is not None:
                self.run.watch.see_flight(self.pace, flight, now_s)
            if flight.load.piece is None:
                done = self._take_back(flight.job, now_s)
            else:
                cohort = self.cohorts[flight.job.group]
                cohort.advance(now_s)
                done = cohort.finished()
                if not done and self._goes_on(flight):
                    continue
                self.schedule.back(flight.job)
            self.decide_s = now_s
            if done:
                finished = self._let_go(done)
        return finished

    def _goes_on(self, flight: Flight) -> bool:
        """Has a group that decodes take its next step at once, if nothing comes between."""
        group = flight.job.group
        if self.flights and self.flights[0].ends_s <= flight.ends_s:
            return False
        if not self.schedule.goes_on(group):
            return False
        cohort = self.cohorts[group]
        self.pace.go_on(flight.load, cohort.leaning_tokens(self.skew))
        self._fly(flight, flight.ends_s)
        return True

    def _send(self, now_s: float) -> None:
        """Sends what can start now."""
        self.decide_s = math.inf
        failover = self.run.failover
        if failover.lost_s and failover.stopped(self.index):
            return
        for job in self._next_jobs(now_s):
            self._start(job, self._load(job), now_s)

    def _next_jobs(self, now_s: float) -> list[Job[Served]]:
        """What the schedule has start now."""
        schedule, jobs = self.schedule, self.schedule.next_jobs()
        if schedule.preempted:
            self._begin_anew(schedule.preempted)
        if jobs:
            begin(jobs, now_s)
            if schedule.occupied > self.most_seats:
                self.most_seats = schedule.occupied
        return jobs

    def _begin_anew(self, preempted: Sequence[Served]) -> None:
        """Forgets what was computed of those who gave their blocks back."""
        for sequence in preempted:
            if sequence.cohort is not None:
                sequence.cohort.remove(sequence)
            sequence.begin_anew()
        self.run.failover.counts["preemptions"] += len(preempted)

    def _start(self, job: Job[Served], load: Load, now_s: float) -> None:
        ahead = [Flight(job, chunk) for chunk in load.ahead]
        self._fly(Flight(job, load, ahead=ahead), now_s)

    def _fly(self, flight: Flight, now_s: float) -> None:
        self.run.happened += 1
        ready_s = now_s
        if self.pace.own_s:
            _, ready_s = self.coordinator.serve(now_s, self.pace.own_s)
        for chunk in flight.ahead:
            self.track.fly(chunk, ready_s)
        self.track.fly(flight, ready_s)
        self.flights.append(flight)

    def _load(self, job: Job[Served]) -> Load:
        """What a job asks of the places."""
        if job.phase == "prefill" and not job.pieces:
            return self.pace.prompt(job.sequences[0].known_tokens)
        cohort = self.cohorts[job.group]
        context = cohort.leaning_tokens(self.skew)
        if job.pieces:
            return self.pace.beside(cohort.size, context, job.pieces)
        return self.pace.step(cohort.size, context)

    def _take_back(self, job: Job[Served], now_s: float) -> list[Served]:
        """Hands out the tokens of a job; who had the last one."""
        self.schedule.back(job)
        cohort = self.cohorts[job.group]
        finished: list[Served] = []
        if not job.pieces and job.phase == "prefill":
            (sequence,) = job.sequences
            sequence.cached_tokens = sequence.known_tokens
            self._first_token(sequence, now_s, cohort, finished)
            return finished
        if job.sequences:
            cohort.advance(now_s)
            if cohort.ends[0][0] == cohort.steps:
                finished = cohort.finished()
        for sequence, cached, tokens, completes in job.pieces:
            sequence.cached_tokens = cached + tokens
            if completes:
                self._first_token(sequence, now_s, cohort, finished)
        return finished

    def _first_token(
        self, sequence: Served, now_s: float, cohort: Cohort, finished: list[Served]
    ) -> None:
        """The token that a prompt brings, and those with whom the next ones come."""
        if sequence.first_s == math.inf:
            sequence.first_s = now_s
        elif sequence.counts:
            self.gaps.add(now_s - sequence.last_s)
        sequence.deliver(1, now_s)
        if sequence.left:
            cohort.join(sequence, now_s)
        else:
            finished.append(sequence)

    def _let_go(self, finished: Sequence[Served]) -> bool:
        """Has sequences leave that have had their last token; whether there are any."""
        for sequence in finished:
            self.schedule.leave(sequence)
            self.run.complete(sequence)
        return bool(finished)

    def drop(self, now_s: float) -> None:
        """Gives up what is under way; it is sent again when the pipeline resumes."""
        unused: list[tuple[Latency, float]] = []
        while self.flights:
            flight = self.flights.popleft()
            for one in (*flight.ahead, flight):
                unused += self.track.book(one, now_s)
                if self.run.watch is not None:
                    self.run.watch.see_flight(self.pace, one, now_s)
            self.dropped.append(flight.job)
        for latency, drawn_s in reversed(unused):
            latency.give_back(drawn_s)
        self.decide_s = math.inf
        self._expect()

    def resume(self, now_s: float) -> None:
        """Sends again what was dropped, and goes on."""
        self._settle_on_nodes()
        jobs, self.dropped = self.dropped, []
        for job in jobs:
            self._start(job, self._load(job), now_s)
        self.decide_s = now_s
        self._expect()

    def evict(self) -> list[Served]:
        """Empties the pipeline; everybody begins anew elsewhere."""
        self.dropped.clear()
        for cohort in self.cohorts:
            cohort.dissolve()
        everyone = self.schedule.evict()
        for sequence in everyone:
            sequence.begin_anew()
        return everyone

    def cached(self) -> list[int]:
        """Cached tokens of those who have a seat."""
        tokens = (sequence.computed_tokens for sequence in self.schedule.seated)
        return [cached for cached in tokens if cached]

    def close(self, now_s: float) -> None:
        """Ends the books."""
        self.drop(now_s)
        for cohort in self.cohorts:
            cohort.dissolve()
        for pace in self.paces.values():
            pace.book()
