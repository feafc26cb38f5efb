"""Rows: a pipeline with a single group, whose equal decode steps pass in one go.

Where nothing changes, the times of the next steps are an arithmetic series, which ends with the
first sequence to finish, with an arrival that can be admitted, or with a loss. Nearly all that a
simulation does is done here, so it is written for speed: nothing is made anew for a step, and what
is asked of the cohort, the schedule and the pace is asked once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from planner.core.cost.batch import leaning_tokens
from planner.core.schedule import Job
from planner.sim.pace import Load
from planner.sim.rounds import RoundLane
from planner.sim.row import Row
from planner.sim.served import Served
from planner.sim.track import Flight

_AT_ONCE = 256
"""Normal numbers that are drawn at a time."""


def normals(draws: np.random.Generator) -> Iterator[float]:
    """Standard normal numbers."""
    while True:
        yield from reversed(draws.standard_normal(_AT_ONCE).tolist())


@dataclass(slots=True)
class RowLane(RoundLane):
    """One pipeline of which mostly a single job is under way: a row, or one that is whole."""

    normals: Iterator[float] = field(kw_only=True)
    row: Row = field(default_factory=Row)
    newcomers: bool = False
    """Whether somebody has come who is likely to be admitted."""

    def add(self, sequence: Served, now_s: float) -> None:
        """Puts a sequence in line; a row ends where it can be admitted."""
        row, schedule = self.row, self.schedule
        schedule.add(sequence)
        if row.rounds:
            if row.piece is not None and schedule.admits():
                row.cut(now_s, self.normals)
                self.newcomers = True
                self.next_s = row.ends_s
        elif not self.flights:
            self.decide_s = self.next_s = now_s

    def advance(self, until_s: float) -> None:
        """Lets happen what happens before then, or until a user's next request is to come."""
        run, row = self.run, self.row
        while self.next_s < until_s:
            now_s = run.clock_s = self.next_s
            if run.watch is not None:
                run.watch.tick(self.index, now_s)
            finished = self._end(now_s) if row.rounds else self._land(now_s)
            if finished and run.closed:
                self._expect()
                return
            if self.decide_s <= now_s:
                self._send(now_s)
            if row.rounds:
                self.next_s = row.ends_s
            else:
                self._expect()

    def _send(self, now_s: float) -> None:
        """Begins a row if nobody is to be admitted, or else what the schedule says."""
        self.decide_s = math.inf
        failover = self.run.failover
        if failover.lost_s and failover.stopped(self.index):
            return
        if self.newcomers:
            self.newcomers = False
        elif not self.flights and self._steps(now_s):
            return
        jobs = self._next_jobs(now_s)
        if len(jobs) == 1 and not self.flights:
            load = self._load(jobs[0])
            if load.ahead:
                self._start(jobs[0], load, now_s)
            else:
                self._whole(jobs[0], load, now_s)
        else:
            for job in jobs:
                self._start(job, self._load(job), now_s)

    def _steps(self, now_s: float) -> bool:
        """Begins as many equal steps as there can be if nobody comes; False for none."""
        cohort, pace = self.cohorts[0], self.pace
        size = cohort.size
        if not size:
            return False
        context: float = cohort.context
        if self.skew:
            longest = cohort.steps - cohort.longest[0][0]
            context = leaning_tokens(size, context, longest, self.skew)
        for piece in pace.pieces.get(size, ()):
            if piece.low <= context <= piece.high:
                break
        else:
            piece = pace.decode(size, context)
        most = cohort.ends[0][0] - cohort.steps
        if context + most * size > piece.high:
            most = min(most, int((piece.high - context) // size) + 1)
        rounds = self.schedule.steady_steps(0, most)
        if not rounds:
            return False
        self.run.happened += 1
        slope_s, jitter_s = piece.growth_s, pace.jitter_s
        step_s = piece.step_s + slope_s * context
        if jitter_s:
            step_s += jitter_s * next(self.normals) / math.sqrt(rounds)
        growth_s = slope_s * size
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        row = self.row
        row.began_s, row.rounds, row.step_s, row.growth_s = now_s, rounds, step_s, growth_s
        row.ends_s = ends_s if ends_s > now_s else now_s
        row.piece, row.context, row.jitter_s = piece, context, jitter_s
        return True

    def _whole(self, job: Job[Served], load: Load, now_s: float) -> None:
        """Begins a job with nothing else on its way."""
        self.run.happened += 1
        pace, row = self.pace, self.row
        step_s, jitter_s = pace.fixed_s + sum(load.taken_s), pace.jitter_s
        if jitter_s:
            step_s += jitter_s * next(self.normals)
        ends_s = now_s + step_s
        row.began_s, row.rounds, row.ends_s = now_s, 1, ends_s if ends_s > now_s else now_s
        row.piece, row.job, row.load = None, job, load

    def _end(self, now_s: float) -> bool:
        """Hands out the tokens of a row, or of a whole job; whether somebody finished."""
        row, cohort, run = self.row, self.cohorts[0], self.run
        self.decide_s = now_s
        if row.piece is not None:
            self._pass(row.rounds)
            row.rounds = 0
            if cohort.ends[0][0] != cohort.steps:
                return False
            return self._let_go(cohort.finished())
        job, load = row.job, row.load
        assert job is not None
        assert load is not None
        row.rounds, row.job, row.load = 0, None, None
        self.pace.note(load)
        self.coordinator.promised_s += self.pace.own_s
        if run.watch is not None:
            run.watch.see_row(self.pace, row.began_s, now_s)
        done = self._take_back(job, now_s)
        return self._let_go(done) if done else False

    def _pass(self, rounds: int) -> None:
        """Notes the first steps of a row."""
        row, pace = self.row, self.pace
        piece = row.piece
        assert piece is not None
        pace.note_steps(piece, row.context, rounds)
        if pace.own_s:
            self.coordinator.promised_s += rounds * pace.own_s
        self.cohorts[0].advance_row(row, rounds)
        self.schedule.repeat(0, rounds)
        if self.run.watch is not None:
            self.run.watch.see_row(pace, row.began_s, self.cohorts[0].last_s)

    def drop(self, now_s: float) -> None:
        """Gives up what is under way; it is sent again when the pipeline resumes."""
        if self.row.rounds:
            self.flights.append(self._broken(now_s))
            self.row.rounds = 0
        RoundLane.drop(self, now_s)

    def _broken(self, now_s: float) -> Flight:
        """The step that is under way, after those of a row before it are taken back."""
        row = self.row
        began_s, job, load = row.began_s, row.job, row.load
        if job is None or load is None:
            rounds = row.rounds_until(now_s) - 1
            if rounds:
                self._pass(rounds)
                began_s = self.cohorts[0].last_s
            job = self.schedule.decode(0)
            load = self._load(job)
        row.job, row.load = None, None
        _, ready_s = self.coordinator.serve(began_s, self.pace.own_s)
        flight = Flight(job, load)
        self.track.fly(flight, ready_s)
        return flight
