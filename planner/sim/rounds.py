"""Rounds: a pipeline whose jobs are computed whole, and whose equal decode steps in one go.

Nothing but the jobs of a pipeline uses its stages and wires, and they pass them in one order. So a
job's whole way is known when it starts. Where a single group decodes and nothing changes, the times
of its next steps are an arithmetic series, which ends with the first sequence to finish, with an
arrival that can be admitted, or with a loss.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.gaps import Gaps
from planner.core.rng import stream
from planner.core.schedule import Job
from planner.sim.cohort import Cohort
from planner.sim.lane import Schedule
from planner.sim.network import Latency, Network, Server
from planner.sim.pace import Pace, Piece
from planner.sim.served import Served
from planner.sim.track import Flight, Track

if TYPE_CHECKING:
    from planner.sim.simulate import Run


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
    draws: random.Random = field(init=False)
    decide_s: float = math.inf
    most_seats: int = 0
    next_s: float = math.inf
    """When something happens next."""

    def __post_init__(self) -> None:
        self.draws = stream(self.network.seed, "jitter of rows", self.index)
        self.cohorts = [Cohort(self.gaps) for _ in range(self.groups)]
        self._settle_on_nodes()

    def _settle_on_nodes(self) -> None:
        workers = self.network.pipelines[self.index]
        nodes = tuple(worker.stage.node for worker in workers)
        if nodes not in self.paces:
            self.paces[nodes] = Pace(self.run.problem, workers, self.network.routes[self.index])
        self.pace = self.paces[nodes]
        self.track = Track(self.pace.places)

    @property
    def coalesces(self) -> bool:
        """Whether steps follow each other with nothing that comes between."""
        return self.groups == 1 and self.alone

    def add(self, sequence: Served, now_s: float) -> None:
        """Puts a sequence in line."""
        self.schedule.add(sequence)
        self.decide(now_s)

    def decide(self, now_s: float) -> None:
        """Has the schedule asked as soon as something can start."""
        flight = self.flights[0] if self.flights else None
        if flight is not None and flight.is_row:
            if self.schedule.admits:
                flight.cut(now_s, self._normal)
        elif flight is None or self.groups > 1:
            self.decide_s = now_s
        self._expect()

    def _expect(self) -> None:
        ends_s = self.flights[0].ends_s if self.flights else math.inf
        self.next_s = min(ends_s, self.decide_s)

    def advance(self, until_s: float) -> None:
        """Lets happen what happens until then, or until a user's next request is to come."""
        run = self.run
        while self.next_s <= until_s:
            now_s = run.clock_s = self.next_s
            if self.flights and self.flights[0].ends_s <= now_s:
                done = self._take_back(self.flights.popleft(), now_s)
                self.decide_s = now_s
                self._expect()
                if done and run.closed:
                    return
            else:
                self.decide_s = math.inf
                self._send(now_s)
                self._expect()

    def _send(self, now_s: float) -> None:
        if self.run.failover.stopped(self.index):
            return
        jobs = self.schedule.next_jobs()
        for sequence in self.schedule.preempted:
            if sequence.cohort is not None:
                sequence.cohort.remove(sequence)
            sequence.begin_anew()
            self.run.failover.counts["preemptions"] += 1
        self.most_seats = max(self.most_seats, self.schedule.occupied)
        for job in jobs:
            self._start(job, now_s)

    def _start(self, job: Job[Served], now_s: float) -> None:
        self.run.happened += 1
        cohort = self.cohorts[job.group]
        context = self._context(cohort) if cohort.size else 0
        piece = self._piece(job, cohort, context)
        ready_s = now_s + piece.legs.own_s
        if job.phase == "decode" and self.coalesces:
            rounds = 1
            if not self.schedule.admits:
                room = int((piece.high - context) // cohort.size)
                most = min(cohort.steps_left - 1, room)
                rounds = 1 + self.schedule.steady_steps(job.group, most)
            flight = Flight(job, piece, context, now_s, ready_s, 0.0, rounds, is_row=True)
            if self.pace.jitter_s:
                flight.jitter_s = self.pace.jitter_s
                drawn_s = flight.jitter_s * self._normal() / math.sqrt(rounds)
                flight.drift_s = self.pace.latency_s + drawn_s
            flight.ends_s = max(now_s, flight.after(rounds))
        else:
            _, ready_s = self.coordinator.serve(now_s, piece.legs.own_s)
            flight = self.track.fly(job, piece, context, now_s, ready_s)
        self.flights.append(flight)

    def _context(self, cohort: Cohort) -> float:
        """Cached tokens of those who decode; more where the longest one tells."""
        skew = self.run.problem.engine.kv_skew
        if not skew:
            return cohort.context
        longest = cohort.longest_tokens
        return Batch.uneven(cohort.size, cohort.context, longest, skew).context_tokens

    def _normal(self) -> float:
        """A standard normal number."""
        return self.draws.gauss(0.0, 1.0)

    def _piece(self, job: Job[Served], cohort: Cohort, context: float) -> Piece:
        """How long a job takes."""
        if job.pieces:
            prompts = [(piece.tokens, piece.cached_tokens) for piece in job.pieces]
            return self.pace.beside(len(job.sequences), context, prompts)
        if job.phase == "prefill":
            return self.pace.prompt(job.sequences[0].known_tokens)
        return self.pace.decode(cohort.size, context)

    def _take_back(self, flight: Flight, now_s: float) -> bool:
        """Hands out the tokens of a job, or of all steps of a row; whether somebody finished."""
        job = flight.job
        self._book(flight, flight.rounds)
        if flight.rounds > 1:
            self.schedule.repeat(job.group, flight.rounds - 1)
        self.schedule.back(job)
        cohort = self.cohorts[job.group]
        finished: list[Served] = []
        complete = [piece.sequence for piece in job.pieces if piece.completes]
        if job.phase == "prefill" and not job.pieces:
            complete = list(job.sequences)
            complete[0].cached_tokens = complete[0].known_tokens
        elif job.sequences:
            self._step(cohort, flight, flight.rounds)
            finished += cohort.finished()
        for piece in job.pieces:
            piece.sequence.cached_tokens += piece.tokens
        for sequence in complete:
            self._first_token(sequence, now_s)
            if sequence.left:
                cohort.join(sequence)
            else:
                finished.append(sequence)
        for sequence in finished:
            self.schedule.leave(sequence)
            self.run.complete(sequence)
        return bool(finished)

    def _first_token(self, sequence: Served, now_s: float) -> None:
        """The token that a prompt brings."""
        record = sequence.record
        if record.token_s and sequence.counts:
            self.gaps.add(now_s - record.token_s[-1], now_s - record.token_s[-1], 1)
        record.token_s[1:] = [now_s]
        record.delivered = (record.delivered or 0) + 1
        sequence.left -= 1

    def _step(self, cohort: Cohort, flight: Flight, rounds: int) -> None:
        """Has a cohort pass through the first steps of a flight."""
        first_s = last_s = flight.ends_s
        grows_s = (0.0, 0.0)
        if rounds > 1:
            first_s, last_s = flight.after(1), flight.after(rounds)
            piece, size = flight.piece, cohort.size
            second, latest = flight.context + size, flight.context + (rounds - 1) * size
            step_s = piece.step_s + flight.drift_s
            grows_s = (step_s + piece.growth_s * second, step_s + piece.growth_s * latest)
        elif flight.is_row:
            first_s = last_s = flight.after(1)
        cohort.advance(rounds, first_s, grows_s, flight.jitter_s)
        cohort.last_s = last_s

    def _book(self, flight: Flight, rounds: int) -> None:
        """Notes how often a job went all the way."""
        piece = flight.piece
        self.pace.note(piece, flight.context, len(flight.job.sequences), rounds)
        if flight.is_row:
            self.coordinator.promised_s += rounds * piece.legs.own_s

    def drop(self, now_s: float) -> None:
        """Gives up what is under way; it is sent again when the pipeline resumes."""
        unused: list[tuple[Latency, float]] = []
        while self.flights:
            flight = self.flights.popleft()
            if flight.is_row:
                flight = self._broken(flight, now_s)
            unused += self.track.book(flight, now_s)
            self.dropped.append(flight.job)
        for latency, drawn_s in reversed(unused):
            latency.give_back(drawn_s)
        self.decide_s = math.inf
        self._expect()

    def _broken(self, row: Flight, now_s: float) -> Flight:
        """The step of a row that is under way, after those before it are taken back."""
        rounds = row.rounds_until(now_s) - 1
        cohort, began_s = self.cohorts[row.job.group], row.began_s
        if rounds:
            self._book(row, rounds)
            self._step(cohort, row, rounds)
            self.schedule.repeat(row.job.group, rounds)
            began_s = cohort.last_s
        _, ready_s = self.coordinator.serve(began_s, row.piece.legs.own_s)
        return self.track.fly(row.job, row.piece, self._context(cohort), began_s, ready_s)

    def resume(self, now_s: float) -> None:
        """Sends again what was dropped, and goes on."""
        self._settle_on_nodes()
        jobs, self.dropped = self.dropped, []
        for job in jobs:
            self._start(job, now_s)
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
            cohort.settle()
        for pace in self.paces.values():
            pace.book()
