"""PipelineSchedule: which job a pipeline does next, by the rules all of planner shares.

The rules are in ``docs/life-of-a-request.md``; the simulator follows the same ones.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from planner.core.cost.batch import Phase


@dataclass(slots=True, eq=False)
class Sequence:
    """A request on its way through a pipeline."""

    id: int
    prompt_ids: list[int]
    output_ids: list[int] = field(default_factory=list)
    slot: int = -1
    """Seat it has in the pipeline, the same at every stage."""
    group: int = -1


@dataclass(frozen=True, slots=True)
class Job:
    """What goes down a pipeline at once: one prompt, or the latest token of a group."""

    phase: Phase
    group: int
    sequences: tuple[Sequence, ...]


class PipelineSchedule:
    """Seats, groups and the waiting line of one pipeline."""

    def __init__(self, seats: int, groups: int) -> None:
        self._free = list(range(seats))
        self._waiting: deque[Sequence] = deque()
        self._running: list[list[Sequence]] = [[] for _ in range(groups)]
        self._under_way = [0] * groups

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing runs."""
        return not self._waiting and not any(self._running)

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence at the end of the line."""
        self._waiting.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Frees the seat of a finished sequence."""
        self._running[sequence.group].remove(sequence)
        heapq.heappush(self._free, sequence.slot)

    def back(self, job: Job) -> None:
        """Notes that a job's tokens have arrived."""
        self._under_way[job.group] -= 1

    def next_jobs(self) -> list[Job]:
        """Jobs that can start now, in the order to send them.

        Idle groups admit first, the one with the fewest sequences each time; a group that
        admitted nobody decodes.
        """
        idle = [group for group, jobs in enumerate(self._under_way) if jobs == 0]
        jobs = []
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
