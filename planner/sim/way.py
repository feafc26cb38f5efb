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
    hop: int = -1
    payloads: tuple[float, ...] = ()

    def next_hop(self) -> None:
        """Goes onto the wire to the next stage, or to the coordinator."""
        lane = self.lane
        if self.number not in lane.flying:
            return
        problem = lane.run.problem
        if not self.payloads:
            pipeline = lane.run.plan.pipelines[lane.index]
            self.payloads = payloads_bytes(problem, pipeline, sent(self.batches))
        self.hop += 1
        wire = lane.network.routes[lane.index][self.hop]
        now_s, size = lane.now(), self.payloads[self.hop]
        began_s, arrives_s = wire.send(problem, now_s, size, self.batches[0].phase)
        if wire.down is None:
            self._arrive(wire, now_s, began_s, arrives_s)
            return

        def come_in() -> None:
            passed_s = wire.receive(problem, lane.now(), size, self.batches[0].phase)
            self._arrive(wire, now_s, began_s, max(arrives_s, passed_s))

        lane.at(wire.first_s, come_in)

    def _arrive(self, wire: Wire, came_s: float, began_s: float, arrives_s: float) -> None:
        self._note(f"{wire.src} -> {wire.dst}", came_s, began_s, arrives_s)
        self.lane.at(arrives_s, self._next())

    def compute(self) -> None:
        """Waits for the stage and has it compute."""
        lane = self.lane
        if self.number not in lane.flying:
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
            requests = tuple(sequence.record.id for sequence in self.job.sequences)
            times_s = (came_s, began_s, ended_s)
            self.lane.visits.append(
                Visit(place, self.number, *times_s, phase=self.job.phase, requests=requests)
            )
