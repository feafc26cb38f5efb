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
from itertools import chain, repeat

import numpy as np

from planner.core.cost.batch import leaning_tokens
from planner.core.schedule import Job
from planner.sim.pace import Load, Piece
from planner.sim.rounds import RoundLane
from planner.sim.row import Row
from planner.sim.served import Served
from planner.sim.track import Flight

_AT_ONCE = 256
"""Normal numbers that are drawn at a time."""


def normals(draws: np.random.Generator) -> Iterator[float]:
    """Standard normal numbers."""
    return chain.from_iterable(
        reversed(draws.standard_normal(_AT_ONCE).tolist()) for _ in repeat(None)
    )


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
            if row.piece is not None and not self.newcomers and schedule.admits():
                row.cut(now_s, self.normals)
                self.newcomers = True
                self.next_s = row.ends_s
        elif not self.flights:
            self.decide_s = self.next_s = now_s

    def advance(self, until_s: float) -> None:
        """Lets happen what happens before then, or until a user's next request is to come."""
        run, row = self.run, self.row
        lost_s, watch, now_s = run.failover.lost_s, run.watch, self.next_s
        while now_s < until_s:
            run.clock_s = now_s
            if watch is not None:
                watch.tick(self.index, now_s)
            if row.rounds:
                piece = row.piece
                finished = self._end_job() if piece is None else self._end_steps(piece)
                decides = True
            else:
                finished = self._land(now_s)
                decides = self.decide_s <= now_s
                if decides:
                    self.decide_s = math.inf
            if finished and run.closed:
                if decides:
                    self.decide_s = now_s
                self._expect()
                return
            if (
                decides
                and not (lost_s and run.failover.stopped(self.index))
                and (self.newcomers or self.flights or not self._steps(now_s))
            ):
                self._begin(now_s)
            if row.rounds:
                now_s = self.next_s = row.ends_s
            else:
                self._expect()
                now_s = self.next_s

    def _begin(self, now_s: float) -> None:
        """Begins what the schedule says, where it is no row."""
        self.newcomers = False
        jobs = self._next_jobs(now_s)
        if len(jobs) == 1 and not self.flights:
            job = jobs[0]
            load = self._load(job)
            if not load.ahead:
                self._whole(job, load, now_s)
                return
        for job in jobs:
            self._start(job, self._load(job), now_s)

    def _steps(self, now_s: float) -> bool:
        """Begins as many equal steps as there can be if nobody comes; False for none."""
        cohort, pace, row = self.cohorts[0], self.pace, self.row
        size = cohort.size
        if not size:
            return False
        steps = cohort.steps
        rounds = self.schedule.steady_steps(0, cohort.ends[0][0] - steps)
        if not rounds:
            return False
        context: float = cohort.context
        if self.skew:
            context = leaning_tokens(size, context, steps - cohort.longest[0][0], self.skew)
        for piece in pace.pieces.get(size, ()):
            if piece.low <= context <= piece.high:
                break
        else:
            piece = pace.decode(size, context)
        if context + rounds * size > piece.high:
            rounds = min(rounds, int((piece.high - context) // size) + 1)
        self.run.happened += 1
        slope_s, jitter_s = piece.growth_s, pace.jitter_s
        step_s = piece.step_s + slope_s * context
        if jitter_s:
            step_s += jitter_s * next(self.normals) / math.sqrt(rounds)
        growth_s = slope_s * size
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        row.began_s, row.rounds, row.step_s, row.growth_s = now_s, rounds, step_s, growth_s
        row.ends_s = ends_s if ends_s > now_s else now_s
        row.piece, row.context, row.jitter_s = piece, context, jitter_s
        return True

    def _whole(self, job: Job[Served], load: Load, now_s: float) -> None:
        """Begins a job with nothing else on its way."""
        self.run.happened += 1
        pace, row = self.pace, self.row
        ends_s = now_s + pace.fixed_s + sum(load.taken_s)
        if pace.jitter_s:
            ends_s += pace.jitter_s * next(self.normals)
        row.began_s, row.rounds, row.ends_s = now_s, 1, ends_s if ends_s > now_s else now_s
        row.piece, row.job, row.load = None, job, load

    def _end_steps(self, piece: Piece) -> bool:
        """Hands out the tokens of a row; whether somebody finished."""
        row, cohort = self.row, self.cohorts[0]
        self._pass(piece, row.rounds)
        row.rounds = 0
        return cohort.ends[0][0] == cohort.steps and self._let_go(cohort.finished())

    def _end_job(self) -> bool:
        """Hands out the tokens of a whole job; whether somebody finished."""
        row, pace = self.row, self.pace
        job, load = row.job, row.load
        assert job is not None
        assert load is not None
        row.rounds, row.job, row.load = 0, None, None
        pace.note(load)
        self.coordinator.promised_s += pace.own_s
        if self.run.watch is not None:
            self.run.watch.see_row(pace, row.began_s, row.ends_s)
        done = self._take_back(job, row.ends_s)
        return bool(done) and self._let_go(done)

    def _pass(self, piece: Piece, rounds: int) -> None:
        """Notes the first steps of a row."""
        row, pace, cohort = self.row, self.pace, self.cohorts[0]
        piece.times += rounds
        piece.context += rounds * row.context + piece.size * (rounds * (rounds - 1) // 2)
        cohort.advance_row(row, rounds)
        self.schedule.repeat(0, rounds)
        if pace.own_s:
            self.coordinator.promised_s += rounds * pace.own_s
        if self.run.watch is not None:
            self.run.watch.see_row(pace, row.began_s, cohort.last_s)

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
            if rounds and row.piece is not None:
                self._pass(row.piece, rounds)
                began_s = self.cohorts[0].last_s
            job = self.schedule.decode(0)
            load = self._load(job)
        row.job, row.load = None, None
        _, ready_s = self.coordinator.serve(began_s, self.pace.own_s)
        flight = Flight(job, load)
        self.track.fly(flight, ready_s)
        return flight
