"""Prompt: the jobs that an expected prompt of a load goes down a pipeline in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.core.cost import Batch
from planner.core.cost.traversal import jobs_of, overlaps
from planner.core.problem import Problem
from planner.plan.load import Load


@dataclass(frozen=True, slots=True)
class Prompt:
    """One expected prompt of a load."""

    whole: Batch
    jobs: tuple[Batch, ...]
    overlapping: bool
    """Whether several of its jobs are under way at once: tables know a bound of its time only."""

    @classmethod
    def of(cls, problem: Problem, load: Load) -> Prompt:
        """The prompt that pipelines with that load get."""
        whole = load.prompt
        jobs = jobs_of(problem, whole, load.seats)
        return cls(whole, tuple(jobs), overlaps(jobs, load.groups))

    def all(self, time_s: Callable[[Batch], float]) -> float:
        """What all its jobs take at a place (s)."""
        return sum(map(time_s, self.jobs))

    def sent(self, time_s: Callable[[Batch], float]) -> float:
        """What all its messages take on a line; of those without an answer, as a single one (s)."""
        return time_s(self.whole) if self.jobs[0].silent else self.all(time_s)

    def least(self, time_s: Callable[[Batch], float]) -> float:
        """What one of its jobs takes at least, behind others (s); all of them in a row."""
        if not self.overlapping:
            return self.all(time_s)
        return min(time_s(replace(job, silent=True)) for job in self.jobs)

    @property
    def behind(self) -> float:
        """How often the longest place comes on top of ``least`` at every place.

        All C jobs pass that place one after the other, and some job every other. The least one
        there takes no more than the mean of all: all but one C-th come on top.
        """
        return 1 - 1 / len(self.jobs) if self.overlapping else 0.0
