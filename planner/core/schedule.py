"""PipelineSchedule: which job a pipeline does next, by the rules all of planner shares.

The rules are in ``docs/life-of-a-request.md``. The simulator and the runtime run this very code.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from planner.core.cost.batch import Phase
from planner.core.plan import Plan


class Seated(Protocol):
    """A request on its way through a pipeline; the schedule assigns its place."""

    slot: int
    """Seat it has in the pipeline, the same at every stage."""
    group: int


S = TypeVar("S", bound=Seated)


class Piece(NamedTuple, Generic[S]):
    """Some tokens of a prompt that are computed in one step."""

    sequence: S
    cached_tokens: int
    """Tokens of the sequence that were computed before."""
    tokens: int
    completes: bool
    """Whether the prompt is complete after it."""


class Job(NamedTuple, Generic[S]):
    """What goes down a pipeline at once: one prompt, or the latest token of a group."""

    phase: Phase
    group: int
    sequences: tuple[S, ...]
    pieces: tuple[Piece[S], ...] = ()
    """Pieces of prompts beside the latest tokens of ``sequences``; whole prompts go without."""


class PipelineSchedule(Generic[S]):
    """Seats, groups and the waiting line of one pipeline."""

    most_tokens: int | None = None
    """Longest request; None for what the plan set memory aside for."""
    preempted: tuple[S, ...] = ()
    """Nobody: who has a seat has the memory for the longest answer."""
    asked_tokens = reused_tokens = 0
    """No prompt is looked up in a cache."""

    fault: str | None = None
    """What is wrong with its memory; seats cannot be given away twice."""

    def __init__(self, seats: int, groups: int) -> None:
        self._seats = seats
        self._free = list(range(seats))
        self._waiting: deque[S] = deque()
        self._running: list[list[S]] = [[] for _ in range(groups)]
        self._under_way = [0] * groups

    @property
    def seated(self) -> list[S]:
        """Sequences that have a seat, group by group."""
        return [sequence for group in self._running for sequence in group]

    @property
    def waiting(self) -> list[S]:
        """Sequences without a seat, in the order of the line."""
        return list(self._waiting)

    @property
    def occupied(self) -> int:
        """How many have a seat."""
        return self._seats - len(self._free)

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing runs."""
        return not self._waiting and not any(self._running)

    def admits(self, group: int = 0) -> bool:
        """Whether somebody waits who could have a seat in a group now."""
        return bool(self._waiting and self._free)

    def add(self, sequence: S) -> None:
        """Puts a sequence at the end of the line."""
        self._waiting.append(sequence)

    def withdraw(self, sequence: S) -> bool:
        """Takes a sequence out of the line; False if it is not waiting."""
        if sequence not in self._waiting:
            return False
        self._waiting.remove(sequence)
        return True

    def leave(self, sequence: S) -> None:
        """Frees the seat of a finished sequence."""
        self._running[sequence.group].remove(sequence)
        heapq.heappush(self._free, sequence.slot)

    def evict(self) -> list[S]:
        """Empties the pipeline: everybody who was in it, those with a seat first."""
        everyone = [*self.seated, *self._waiting]
        for sequence in self.seated:
            self.leave(sequence)
        self._waiting.clear()
        self._under_way = [0] * len(self._running)
        return everyone

    def steady_steps(self, group: int, most: int) -> int:
        """How many decode steps of a group can follow from now on if nobody comes or leaves.

        ``most`` at most; none where somebody is to be admitted first.
        """
        return 0 if self.admits(group) else most

    def repeat(self, group: int, steps: int) -> None:
        """Notes that so many decode steps of a group have passed."""

    def goes_on(self, group: int) -> bool:
        """Begins another decode step of a group, if nobody is to be admitted first."""
        return not self.admits(group)

    def decode(self, group: int) -> Job[S]:
        """Begins a decode step of a group, for which there is room."""
        self._under_way[group] += 1
        return Job("decode", group, tuple(self._running[group]))

    def back(self, job: Job[S]) -> None:
        """Notes that a job's tokens have arrived."""
        self._under_way[job.group] -= 1

    def next_jobs(self) -> list[Job[S]]:
        """Jobs that can start now, in the order to send them.

        Idle groups admit first, the one with the fewest sequences each time; a group that
        admitted nobody decodes.
        """
        idle = [group for group, jobs in enumerate(self._under_way) if jobs == 0]
        jobs: list[Job[S]] = []
        while idle and self._waiting and self._free:
            sequence = self._waiting.popleft()
            sequence.slot = heapq.heappop(self._free)
            sequence.group = min(idle, key=lambda group: (len(self._running[group]), group))
            self._running[sequence.group].append(sequence)
            jobs.append(Job("prefill", sequence.group, (sequence,)))
        admitted = {job.group for job in jobs}
        for group in idle:
            if group not in admitted and self._running[group]:
                jobs.append(Job("decode", group, tuple(self._running[group])))
        for job in jobs:
            self._under_way[job.group] += 1
        return jobs


class Router:
    """Which pipeline each request goes to: the one with the least on it for its weight.

    So a slow replica gets fewer requests than a fast one of the same weight: in a closed loop the
    weights split the users, whatever the speeds. Equally loaded ones take turns by their weights,
    the first among equals.
    """

    def __init__(self, plan: Plan) -> None:
        self._weights = [pipeline.weight for pipeline in plan.pipelines]
        self._present = [0] * len(self._weights)
        self._assigned = [0] * len(self._weights)
        self._burdens = [(0.0, 1 / weight, index) for index, weight in enumerate(self._weights)]
        """By pipeline: requests that are there, and those it would have had, for its weight."""

    def assign(self, among: Sequence[int] | None = None) -> int:
        """Pipeline of a request that comes, one of ``among``, or of all where it is absent."""
        if among is None or len(among) == len(self._weights):
            index = min(self._burdens)[2]
        else:
            index = min(among, key=self._burdens.__getitem__)
        present = self._present[index] = self._present[index] + 1
        assigned = self._assigned[index] = self._assigned[index] + 1
        weight = self._weights[index]
        self._burdens[index] = present / weight, (assigned + 1) / weight, index
        return index

    def leave(self, index: int) -> None:
        """Notes that a request of a pipeline has ended or goes elsewhere."""
        present = self._present[index] = self._present[index] - 1
        _, share, _ = self._burdens[index]
        self._burdens[index] = present / self._weights[index], share, index
