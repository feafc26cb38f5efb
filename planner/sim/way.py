"""Way: a job on its way through a pipeline, and the sequences it serves."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.cost.traversal import arrivals, payloads_bytes
from planner.core.metrics import RequestRecord
from planner.core.schedule import Job
from planner.sim.result import Visit

if TYPE_CHECKING:
    from planner.sim.simulate import Run


@dataclass(slots=True, eq=False)
class Served:
    """A request on its way; ``left`` is known to the oracle only."""

    record: RequestRecord
    left: int
    cached_tokens: int = 0
    slot: int = -1
    group: int = -1
    luck: random.Random | None = None
    """Decides which drafts are accepted."""


def computed_tokens(sequence: Served) -> int:
    """Tokens a prefill computes; who begins anew computes the ones it had again."""
    return sequence.record.prompt_tokens + sequence.record.output_tokens


def batch_of(job: Job[Served], checked_tokens: int) -> Batch:
    """What a job computes; decode steps check the latest token and the drafts after it."""
    if job.phase == "prefill":
        return Batch.prefill(computed_tokens(job.sequences[0]))
    cached = sum(sequence.cached_tokens for sequence in job.sequences)
    return Batch.decode(len(job.sequences), cached, checked_tokens)


@dataclass(slots=True)
class Way:
    """A job's way: wire, stage, wire, stage, ..., wire back."""

    run: Run
    index: int
    job: Job[Served]
    number: int
    batch: Batch
    hop: int = -1
    payloads: tuple[float, ...] = ()

    def next_hop(self) -> None:
        """Goes onto the wire to the next stage, or to the coordinator."""
        run = self.run
        if self.number not in run.flying[self.index]:
            return
        if not self.payloads:
            pipeline = run.plan.pipelines[self.index]
            self.payloads = payloads_bytes(run.problem, pipeline, self.batch)
        self.hop += 1
        wire = run.network.routes[self.index][self.hop]
        now_s = run.env.now
        began_s, arrives_s = wire.send(
            run.problem, now_s, self.payloads[self.hop], self.batch.phase
        )
        self._note(f"{wire.src} -> {wire.dst}", now_s, began_s, arrives_s)
        run.at(arrives_s, self._next(run))

    def compute(self) -> None:
        """Waits for the stage and has it compute."""
        run = self.run
        if self.number not in run.flying[self.index]:
            return
        worker = run.network.pipelines[self.index][self._stops().index(self.hop)]
        came_s, life = run.env.now, worker.lives

        def computed() -> None:
            if worker.lives == life:
                worker.end(run.env.now)
                self.next_hop()

        def started(began_s: float, ends_s: float) -> None:
            self._note(worker.stage.node, came_s, began_s, ends_s)
            run.at(ends_s, computed)

        worker.compute(came_s, self.batch, started)

    def _next(self, run: Run) -> Callable[[], None]:
        """What follows the hop just made: a stage, a relay, or home."""
        if self.hop in self._stops():
            return self.compute
        last = self.hop == len(run.network.routes[self.index]) - 1
        return self.return_home if last else self.next_hop

    def _stops(self) -> range:
        return arrivals(self.run.problem, self.run.plan.pipelines[self.index])

    def return_home(self) -> None:
        """Brings the tokens to the coordinator."""
        if self.number in self.run.flying[self.index]:
            self.run.take_back(self.index, self.number, self.job)

    def _note(self, place: str, came_s: float, began_s: float, ended_s: float) -> None:
        if self.run.keep_visits:
            self.run.visits.append(Visit(place, self.number, came_s, began_s, ended_s))
