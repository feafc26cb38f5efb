"""Lane: what a run asks of the simulation of one pipeline."""

from __future__ import annotations

from typing import Protocol

from planner.core.continuous import ContinuousSchedule
from planner.core.schedule import PipelineSchedule
from planner.sim.served import Served

Schedule = PipelineSchedule[Served] | ContinuousSchedule[Served]
"""The rules of planner's own runtime, or vLLM's."""


class Lane(Protocol):
    """One pipeline: every hop an event, or whole rows of steps at once."""

    schedule: Schedule
    most_seats: int
    """Most sequences that had a seat at once."""
    alone: bool
    """Whether nothing in it depends on other lanes but who is sent to it."""
    next_s: float
    """When something happens next that is no event of the run's clock."""

    def add(self, sequence: Served, now_s: float) -> None:
        """Puts a sequence in line."""

    def advance(self, until_s: float) -> None:
        """Lets happen what happens before then, or until a user's next request is to come."""

    def drop(self, now_s: float) -> None:
        """Gives up the jobs under way; they are sent again when the pipeline resumes."""

    def resume(self, now_s: float) -> None:
        """Sends again what was dropped, and goes on."""

    def evict(self) -> list[Served]:
        """Empties the pipeline; everybody begins anew elsewhere."""

    def cached(self) -> list[int]:
        """Cached tokens of those who have a seat."""

    def close(self, now_s: float) -> None:
        """Ends the books."""
