"""Rows: steps of a pipeline with a single group as they follow each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from planner.core.cost.batch import leaning_tokens
from planner.core.schedule import Job
from planner.sim.cohort import Cohort
from planner.sim.lane import Schedule
from planner.sim.pace import Load, Pace
from planner.sim.row import Row
from planner.sim.served import Served
from planner.sim.server import Server

if TYPE_CHECKING:
    from planner.sim.simulate import Run

_AT_ONCE = 256
"""Normal numbers that are drawn at a time."""


@dataclass(slots=True)
class Rows:
    """Begins rows of the steps that a group can make, and notes those that have passed."""

    run: Run
    cohort: Cohort
    schedule: Schedule
    coordinator: Server
    draws: np.random.Generator
    normals: list[float] = field(default_factory=list)
    """Standard normal numbers that were drawn and not used yet."""
    pace: Pace = field(init=False)
    skew: float = field(init=False)

    def __post_init__(self) -> None:
        self.skew = self.run.problem.engine.kv_skew

    def normal(self) -> float:
        """A standard normal number."""
        if not self.normals:
            self.normals = self.draws.standard_normal(_AT_ONCE).tolist()
        return self.normals.pop()

    def single(self, job: Job[Served], load: Load, now_s: float) -> Row:
        """A job with nothing else on its way."""
        self.run.happened += 1
        pace = self.pace
        step_s, jitter_s = pace.fixed_s + sum(load.taken_s), pace.jitter_s
        if jitter_s:
            step_s += jitter_s * self.normal()
        ends_s = now_s + step_s
        if ends_s < now_s:
            ends_s = now_s
        return Row(now_s, 1, step_s, 0.0, jitter_s, ends_s, None, 0.0, job, load)

    def steps(self, now_s: float) -> Row | None:
        """As many equal steps as there can be if nobody comes; None where something is between."""
        cohort, pace = self.cohort, self.pace
        size = cohort.size
        if not size:
            return None
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
            return None
        self.run.happened += 1
        slope_s, jitter_s = piece.growth_s, pace.jitter_s
        step_s = piece.step_s + slope_s * context
        if jitter_s:
            step_s += jitter_s * self.normal() / math.sqrt(rounds)
        growth_s = slope_s * size
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        if ends_s < now_s:
            ends_s = now_s
        return Row(now_s, rounds, step_s, growth_s, jitter_s, ends_s, piece, context)

    def note(self, row: Row, rounds: int) -> None:
        """Notes the first steps of a row of decode steps."""
        piece, pace = row.piece, self.pace
        assert piece is not None
        piece.times += rounds
        piece.context += rounds * row.context + piece.size * (rounds * (rounds - 1) // 2)
        if pace.own_s:
            self.coordinator.promised_s += rounds * pace.own_s
        self.cohort.advance_row(row, rounds)
        self.schedule.repeat(0, rounds)
        if self.run.watch is not None:
            self.run.watch.see_row(pace, row.began_s, self.cohort.last_s)
