"""Traffic: which requests are in which pipeline, and which of their jobs are under way."""

from __future__ import annotations

from typing import Protocol

from planner.core.plan import Plan
from planner.core.schedule import Job, PipelineSchedule, Router
from planner.run.history import Cached
from planner.run.prompts import Running


class Watcher(Protocol):
    """Hears which sequences are in which pipeline."""

    def opened(self, sequence: Running) -> None:
        """A sequence enters its pipeline."""

    def ended(self, sequence: Running, completed: bool) -> None:
        """It leaves, with its last token or without."""


class Traffic:
    """The schedules of all pipelines, the jobs they sent, and the pipelines that stand still."""

    def __init__(self, plan: Plan) -> None:
        self._router = Router(plan)
        self._schedules = [
            PipelineSchedule[Running](pipeline.max_num_seqs, pipeline.micro_batches)
            for pipeline in plan.pipelines
        ]
        self._under_way: dict[int, tuple[int, Job[Running]]] = {}
        """Pipeline and job by number."""
        self.watcher: Watcher | None = None
        self._interrupted: dict[int, list[Job[Running]]] = {}
        """By pipeline that stands still: jobs to be sent again."""

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing runs."""
        return all(schedule.idle for schedule in self._schedules)

    @property
    def busy(self) -> bool:
        """Whether an answer may come."""
        return bool(self._under_way)

    @property
    def whole(self) -> list[int]:
        """Pipelines that do not stand still."""
        return [one for one in range(len(self._schedules)) if one not in self._interrupted]

    def route(self) -> int:
        """Pipeline of the next request: a whole one, if any is."""
        return self._router.assign(self.whole or None)

    def forget(self, index: int) -> None:
        """Notes that a request that was routed to a pipeline has ended or goes elsewhere."""
        self._router.leave(index)

    def add(self, sequence: Running) -> None:
        """Has a sequence wait for a seat in its pipeline."""
        if self.watcher is not None:
            self.watcher.opened(sequence)
        self._schedules[sequence.pipeline].add(sequence)

    def withdraw(self, sequence: Running) -> bool:
        """Takes a sequence out of the line; False if it is not waiting."""
        waiting = self._schedules[sequence.pipeline].withdraw(sequence)
        if waiting:
            self.forget(sequence.pipeline)
            self._tell(sequence, completed=False)
        return waiting

    def leave(self, sequence: Running, completed: bool = False) -> None:
        """Frees the seat of a sequence; what is under way of it is void."""
        sequence.ended = True
        self._schedules[sequence.pipeline].leave(sequence)
        self.forget(sequence.pipeline)
        self._tell(sequence, completed)

    def _tell(self, sequence: Running, completed: bool) -> None:
        if self.watcher is not None:
            self.watcher.ended(sequence, completed)

    def follow_ups(self, checks: int) -> list[tuple[int, Job[Running], bool]]:
        """Decode jobs under way that go on, and whether they have fewer frames than ``checks``.

        Where somebody is to be admitted first, nothing follows: groups admit when they are idle.
        """
        found: dict[int, tuple[int, Job[Running], int]] = {}
        for index, job in self._under_way.values() if checks > 1 else ():
            frames = found[id(job)][2] if id(job) in found else 0
            found[id(job)] = (index, job, frames + 1)
        return [
            (index, job, frames < checks)
            for index, job, frames in found.values()
            if job.phase == "decode" and not self._schedules[index].admits(job.group)
        ]

    def next_jobs(self) -> list[tuple[int, Job[Running]]]:
        """Jobs that can start now, with their pipelines."""
        return [(index, job) for index in self.whole for job in self._schedules[index].next_jobs()]

    def sent(self, number: int, index: int, job: Job[Running]) -> None:
        """Notes a job that is under way, or one more frame of it."""
        self._under_way[number] = (index, job)

    def back(self, number: int) -> Job[Running] | None:
        """The job of which an answer has come; None where nobody waits for it."""
        index, job = self._under_way.pop(number, (-1, None))
        if job is not None and all(other is not job for _, other in self._under_way.values()):
            self._schedules[index].back(job)
        return job

    def interrupt(self, index: int) -> None:
        """Has a pipeline stand still: its jobs under way are given up, to be sent again."""
        if index not in self._interrupted:
            mine = sorted(n for n, (pipeline, _) in self._under_way.items() if pipeline == index)
            jobs = {id(job): job for job in (self._under_way.pop(number)[1] for number in mine)}
            for job in jobs.values():
                for sequence in job.sequences:
                    sequence.give_up()
            self._interrupted[index] = list(jobs.values())

    def stands(self, index: int) -> bool:
        """Whether a pipeline stands still."""
        return index in self._interrupted

    def resume(self, index: int) -> list[Job[Running]]:
        """Has a pipeline go on; the jobs to send again: those that somebody waits for."""
        jobs = self._interrupted.pop(index)
        for job in jobs:
            if all(sequence.ended for sequence in job.sequences):
                self._schedules[index].back(job)
        return [job for job in jobs if not all(sequence.ended for sequence in job.sequences)]

    def cached(self, index: int) -> list[Cached]:
        """What every stage of a pipeline should hold."""
        seated = self._schedules[index].seated
        return [(one.slot, one.id, one.cached) for one in seated if one.cached]

    def evict(self, index: int) -> list[Running]:
        """Everybody who was in a pipeline that stands still, to begin anew or to fail."""
        self._interrupted[index] = []
        everyone = self._schedules[index].evict()
        for sequence in everyone:
            sequence.cached = 0
            sequence.give_up()
            self.forget(index)
            self._tell(sequence, completed=False)
        return everyone
