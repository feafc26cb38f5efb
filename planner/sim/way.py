"""Way: a job on its way through a pipeline, hop by hop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.cost.traversal import arrivals, payloads_bytes
from planner.core.schedule import Job
from planner.sim.network import Wire
from planner.sim.result import Visit
from planner.sim.served import Served, sent

if TYPE_CHECKING:
    from planner.sim.hops import HopLane


@dataclass(slots=True)
class Way:
    """A job's way: wire, stage, wire, stage, ..., wire back."""

    lane: HopLane
    job: Job[Served]
    number: int
    batches: tuple[Batch, ...]
    before: tuple[Batch, ...] = ()
    """Chunks of the same prompt that go right before it."""
    part_of: int | None = None
    """The job that brings the token of a prompt of which this is an earlier chunk."""
    hop: int = -1
    payloads: tuple[float, ...] = ()
    before_bytes: tuple[float, ...] = ()
    """By hop: of the chunks before it."""

    @property
    def lost(self) -> bool:
        """Whether it was given up."""
        answered = self.number if self.part_of is None else self.part_of
        return answered not in self.lane.flying

    def next_hop(self) -> None:
        """Goes onto the wire to the next stage, or to the coordinator."""
        lane = self.lane
        ended = self.part_of is not None and self.hop == self._stops()[-1]
        if self.lost or ended:
            return
        problem = lane.run.problem
        if not self.payloads:
            self._measure()
        self.hop += 1
        wire = lane.network.routes[lane.index][self.hop]
        now_s, size, before = lane.now(), self.payloads[self.hop], self.before_bytes[self.hop]
        began_s, arrives_s = wire.send(problem, now_s, size, self.batches[0].phase, before)
        if wire.down is None:
            self._arrive(wire, now_s, began_s, arrives_s)
            return

        def come_in() -> None:
            passed_s = wire.receive(problem, lane.now(), size, self.batches[0].phase)
            self._arrive(wire, now_s, began_s, max(arrives_s, passed_s))

        lane.at(wire.first_s, come_in)

    def _measure(self) -> None:
        """Finds out the bytes of every hop."""
        problem, pipeline = self.lane.run.problem, self.lane.run.plan.pipelines[self.lane.index]
        self.payloads = payloads_bytes(problem, pipeline, sent(self.batches))
        before = [0.0] * len(self.payloads)
        for chunk in self.before:
            for hop, size_bytes in enumerate(payloads_bytes(problem, pipeline, chunk)):
                if hop <= self._stops()[-1]:
                    before[hop] += size_bytes + problem.engine.frame_bytes
        self.before_bytes = tuple(before)

    def _arrive(self, wire: Wire, came_s: float, began_s: float, arrives_s: float) -> None:
        self._note(f"{wire.src} -> {wire.dst}", came_s, began_s, arrives_s)
        self.lane.at(arrives_s, self._next())

    def compute(self) -> None:
        """Waits for the stage and has it compute."""
        lane = self.lane
        if self.lost:
            return
        worker = lane.network.pipelines[lane.index][self._stops().index(self.hop)]
        came_s, life = lane.now(), worker.lives

        def computed() -> None:
            if worker.lives == life:
                worker.end(lane.now())
                self.next_hop()

        def started(began_s: float, ends_s: float) -> None:
            self._note(worker.stage.node, came_s, began_s, ends_s)
            lane.at(ends_s, computed)

        worker.compute(came_s, self.batches, started)

    def _next(self) -> Callable[[], None]:
        """What follows the hop just made: a stage, a relay, or home."""
        if self.hop in self._stops():
            return self.compute
        last = self.hop == len(self.lane.network.routes[self.lane.index]) - 1
        return self.return_home if last else self.next_hop

    def _stops(self) -> range:
        lane = self.lane
        return arrivals(lane.run.problem, lane.run.plan.pipelines[lane.index])

    def return_home(self) -> None:
        """Brings the tokens to the coordinator."""
        if self.number in self.lane.flying:
            self.lane.take_back(self.number, self.job)

    def _note(self, place: str, came_s: float, began_s: float, ended_s: float) -> None:
        watch = self.lane.run.watch
        if watch is not None:
            watch.see(place, came_s, began_s, ended_s)
        if self.lane.visits is not None:
            requests = tuple(sequence.request.id for sequence in self.job.sequences)
            times_s = (came_s, began_s, ended_s)
            self.lane.visits.append(
                Visit(place, self.number, *times_s, phase=self.job.phase, requests=requests)
            )
