"""Failover: what is done about lost nodes while requests are under way.

A loss stops the pipeline at once and is noticed after ``serving.detect``. Then the first node that
is there and idle takes the stage: the one the plan gave it to, or one of its standbys in the order
of the plan. It loads the weights if it does not hold them, computes the stored stage inputs of all
seated sequences again, and the interrupted jobs are sent once more. Where nobody can take over,
the sequences begin anew in another pipeline; without one they wait, and fail when
``serving.patience`` is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.cost.loading import weights_bytes
from planner.core.cost.transfer import hidden_payload_bytes, token_payload_bytes
from planner.core.cost.traversal import arrivals
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.churn import Outage, outages
from planner.sim.network import Network
from planner.sim.result import Recovery

if TYPE_CHECKING:
    from planner.sim.simulate import Run

Place = tuple[int, int]
"""Pipeline and stage."""


@dataclass(slots=True)
class Failover:
    """Which nodes are there, who holds each stage, and what is lost."""

    problem: Problem
    plan: Plan
    network: Network
    service: Run
    there: dict[str, bool] = field(default_factory=dict)
    lost_s: dict[Place, float] = field(default_factory=dict)
    """Stages without a working node, since when."""
    found_s: dict[Place, float] = field(default_factory=dict)
    """Lost stages that were noticed, and when."""
    taking: dict[Place, int] = field(default_factory=dict)
    """Lost stages that a node is taking over, by attempt."""
    holding: dict[str, set[Place]] = field(default_factory=dict)
    """Stages whose weights a node has."""
    hopeless: set[int] = field(default_factory=set)
    """Pipelines whose requests lost patience."""
    counts: Counter[str] = field(default_factory=Counter)
    recoveries: list[Recovery] = field(default_factory=list)
    gone_s: dict[str, float] = field(default_factory=dict)
    away_s: dict[str, float] = field(default_factory=dict)
    attempts: int = 0
    everyone: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.everyone = list(range(len(self.plan.pipelines)))

    def watch(self) -> None:
        """Lets the nodes of the plan come and go."""
        for index, pipeline in enumerate(self.plan.pipelines):
            for stage, name in enumerate(pipeline.nodes):
                self.holding.setdefault(name, set()).add((index, stage))
        for standby in self.plan.standbys:
            held = self.holding.setdefault(standby.node, set())
            if standby.state == "hot":
                held.add((standby.pipeline, standby.stage))
        for name in sorted(self.holding):
            self.there[name] = True
            self.away_s[name] = 0.0
            self._expect(name, outages(self.problem.cluster, name, self.network.seed))

    @property
    def whole(self) -> list[int]:
        """Pipelines with nothing known to be lost."""
        if not self.found_s:
            return self.everyone
        broken = {index for index, _ in self.found_s}
        return [index for index in range(len(self.plan.pipelines)) if index not in broken]

    @property
    def hopeful(self) -> list[int]:
        """Pipelines a request is sent to: those that work, or may do so soon, or any."""
        if not self.found_s:
            return self.everyone
        hopeful = [one for one in self.everyone if one not in self.hopeless]
        return self.whole or hopeful or self.everyone

    def stopped(self, index: int) -> bool:
        """Whether a pipeline lacks a stage, noticed or not."""
        return bool(self.lost_s) and any(place[0] == index for place in self.lost_s)

    def away(self, until_s: float) -> dict[str, float]:
        """How long each node was away (s)."""
        still = {name: until_s - gone_s for name, gone_s in self.gone_s.items()}
        return {name: self.away_s[name] + still.get(name, 0.0) for name in self.there}

    def _expect(self, name: str, coming: Iterator[Outage]) -> None:
        outage = next(coming, None)
        if outage is None:
            return
        gone_s, back_s = outage

        def back() -> None:
            self._back(name)
            self._expect(name, coming)

        def go() -> None:
            self._go(name)
            self.service.at(back_s, back)

        self.service.at(gone_s, go)

    def _holders(self) -> dict[Place, str]:
        return {
            (index, stage): worker.stage.node
            for index, workers in enumerate(self.network.pipelines)
            for stage, worker in enumerate(workers)
        }

    def _go(self, name: str) -> None:
        now_s = self.service.now()
        self.there[name] = False
        self.gone_s[name] = now_s
        if self.problem.cluster.node(name).trust == "rented":
            self.holding[name] = set()
        for place, holder in self._holders().items():
            if holder != name or (place in self.lost_s and place not in self.taking):
                continue
            index, stage = place
            self.counts["failures"] += 1
            self.service.interrupt(index, name)
            self.network.pipelines[index][stage].lose(now_s)
            self.taking.pop(place, None)
            self.lost_s.setdefault(place, now_s)
            self._notice_later(place, name)

    def _notice_later(self, place: Place, name: str) -> None:
        def notice() -> None:
            if place in self.lost_s and place not in self.taking:
                self.found_s.setdefault(place, self.service.now())
                if not self._take_over(place):
                    self._strand(place, name)

        self.service.at(self.service.now() + self.problem.serving.detect_s, notice)

    def _back(self, name: str) -> None:
        self.there[name] = True
        self.away_s[name] += self.service.now() - self.gone_s.pop(name)
        for place in sorted(self.found_s):
            if place not in self.taking:
                self._take_over(place)

    def _strand(self, place: Place, name: str) -> None:
        """Nobody can take over: elsewhere, or wait, or fail."""
        index, lost_s = place[0], self.lost_s[place]
        patience_s = self.problem.serving.patience_s
        if self.whole:
            self.counts["retries"] += self.service.move(index)

        def give_up() -> None:
            if self.lost_s.get(place) != lost_s or place in self.taking:
                return
            self.hopeless.add(index)
            if not self.whole:
                said = f"lost {name}; nothing replaced it within {patience_s:g} s"
                self.service.fail(index, said)

        self.service.at(max(self.service.now(), lost_s + patience_s), give_up)

    def _candidates(self, place: Place) -> list[str]:
        """Nodes that may take a stage and are there and idle, in order of preference."""
        index, stage = place
        standbys = (
            standby.node
            for standby in self.plan.standbys
            if (standby.pipeline, standby.stage) == place
        )
        holders = self._holders()
        busy = {node for other, node in holders.items() if other != place}
        names = (self.plan.pipelines[index].nodes[stage], *standbys)
        return [name for name in names if self.there[name] and name not in busy]

    def _take_over(self, place: Place) -> bool:
        """Has a node take a lost stage; False where there is none."""
        home = self.problem.cluster.coordinator
        for name in self._candidates(place):
            if not self.problem.cluster.connected(home, name):
                continue
            try:
                self.network.hand_over(*place, name)
            except LookupError:
                continue
            self.attempts += 1
            attempt = self.taking[place] = self.attempts
            self.hopeless.discard(place[0])
            loaded_s = self._loaded_s(place, name)
            ready_s = loaded_s + self.problem.engine.takeover_s
            self.service.at(ready_s, partial(self._replay, place, attempt))
            return True
        return False

    def _loaded_s(self, place: Place, name: str) -> float:
        """When a node holds the weights of a stage: now, or once they are downloaded (s)."""
        now_s = self.service.now()
        if place in self.holding[name]:
            return now_s
        wire = self.network.wire(self.problem.cluster.coordinator, name)
        size_bytes = weights_bytes(self.problem, self.network.pipelines[place[0]][place[1]].stage)
        wire.sent_bytes += size_bytes
        wire.weights_bytes += size_bytes
        return now_s + wire.carriers["prefill"].transfer(size_bytes).total_s

    def _replay(self, place: Place, attempt: int) -> None:
        """Sends the stored stage inputs of all seated sequences; the stage computes them again."""
        if self.taking.get(place) != attempt:
            return
        index, stage = place
        problem, worker = self.problem, self.network.pipelines[index][stage]
        self.holding[worker.stage.node].add(place)
        quant = problem.quant(self.network.pipelines[index][stage - 1].stage.quant)
        hop = arrivals(problem, self.plan.pipelines[index])[stage]
        wire = self.network.routes[index][hop]
        waiting = []
        for tokens in self.service.cached(index):
            sent_bytes = (
                hidden_payload_bytes(problem.model, quant, tokens)
                if stage
                else token_payload_bytes(tokens)
            )
            _, arrives_s = wire.send(problem, self.service.now(), sent_bytes, "prefill")
            waiting.append((arrives_s, Batch.prefill(tokens)))
        self._recompute(place, attempt, waiting)

    def _recompute(
        self, place: Place, attempt: int, waiting: Sequence[tuple[float, Batch]]
    ) -> None:
        """One stored input after the other, each once it has arrived."""
        if self.taking.get(place) != attempt:
            return
        if not waiting:
            self._recovered(place)
            return
        worker = self.network.pipelines[place[0]][place[1]]
        (arrives_s, batch), *rest = waiting
        name = worker.stage.node

        def started(began_s: float, ends_s: float) -> None:
            repeated_s = self.network.repeated_s
            repeated_s[name] = repeated_s.get(name, 0.0) + ends_s - began_s
            self.service.at(ends_s, ended)

        def ended() -> None:
            if self.taking.get(place) == attempt:
                worker.end(self.service.now())
                self._recompute(place, attempt, rest)

        def begin() -> None:
            if self.taking.get(place) == attempt:
                worker.compute(self.service.now(), (batch,), started)

        self.service.at(arrives_s, begin)

    def _recovered(self, place: Place) -> None:
        index, stage = place
        node, now_s = self.network.pipelines[index][stage].stage.node, self.service.now()
        first = self.plan.pipelines[index].nodes[stage]
        self.counts["failovers"] += node != first
        lost_s, found_s = self.lost_s.pop(place), self.found_s.pop(place)
        del self.taking[place]
        self.recoveries.append(Recovery(index, stage, node, lost_s, found_s, now_s))
        if self.stopped(index):
            return
        self.service.resume(index)
        for other in sorted({other for other, _ in self.found_s} - {index}):
            if not any(place[0] == other for place in self.taking):
                self.counts["retries"] += self.service.move(other)
