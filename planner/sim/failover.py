"""Failover: what is done about lost nodes while requests are under way.

A loss stops the pipeline at once and is noticed after ``serving.detect``. Then the first node that
is there and idle takes the stage: the one the plan gave it to, or one of its standbys in the order
of the plan. It loads the weights if it does not hold them, computes the stored stage inputs of all
seated sequences again, and the interrupted jobs are sent once more. Where nobody can take over,
the sequences begin anew in another pipeline; without one they wait, and fail when
``serving.patience`` is over.

A node that says before that it will go gets no new requests if another pipeline stays. A standby
gets ready meanwhile and takes the stage as soon as it has the weights; where that is too late, the
loss is known at once. Without a standby who waits for a seat goes to a pipeline that stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.cost.transfer import hidden_payload_bytes, token_payload_bytes
from planner.core.cost.traversal import arrivals, route
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.network import Network
from planner.sim.presence import Presence
from planner.sim.result import Recovery
from planner.sim.weights import Place, Weights

if TYPE_CHECKING:
    from planner.sim.run import Run


@dataclass(slots=True)
class Failover:
    """Which nodes are there, who holds each stage, and what is lost."""

    problem: Problem
    plan: Plan
    network: Network
    service: Run
    presence: Presence = field(init=False)
    lost_s: dict[Place, float] = field(default_factory=dict)
    """Stages without a working node, since when."""
    found_s: dict[Place, float] = field(default_factory=dict)
    """Lost stages that were noticed, and when."""
    taking: dict[Place, int] = field(default_factory=dict)
    """Lost stages that a node is taking over, by attempt."""
    weights: Weights = field(init=False)
    hopeless: set[int] = field(default_factory=set)
    """Pipelines whose requests lost patience."""
    counts: Counter[str] = field(default_factory=Counter)
    recoveries: list[Recovery] = field(default_factory=list)
    moving: dict[Place, str] = field(default_factory=dict)
    """Stages of nodes that will go, and who is getting ready to take them."""
    replayed_s: dict[Place, float] = field(default_factory=dict)
    """How long the nodes that are taking over have computed stored inputs again."""
    handed: set[Place] = field(default_factory=set)
    """Stages that are being handed over before their node goes."""
    attempts: int = 0
    everyone: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = Weights(self.problem, self.network)
        self.presence = Presence(self.problem, self.network.seed, self.service)
        self.everyone = list(range(len(self.plan.pipelines)))

    def watch(self) -> None:
        """Lets the nodes of the plan come and go."""
        for index, pipeline in enumerate(self.plan.pipelines):
            for stage, name in enumerate(pipeline.nodes):
                self.weights.held((index, stage), name)
        names = set(self.plan.nodes)
        for standby in self.plan.standbys:
            names.add(standby.node)
            if standby.state == "hot":
                self.weights.held((standby.pipeline, standby.stage), standby.node)
            elif standby.state == "warm":
                self.weights.stored((standby.pipeline, standby.stage), standby.node)
        for name in sorted(names):
            self.presence.watch(name, self)

    @property
    def whole(self) -> list[int]:
        """Pipelines with nothing known to be lost."""
        if not self.found_s:
            return self.everyone
        broken = {index for index, _ in self.found_s}
        return [index for index in range(len(self.plan.pipelines)) if index not in broken]

    @property
    def hopeful(self) -> list[int]:
        """Pipelines a request is sent to: those that work and will go on, or may do so, or any."""
        if not self.found_s and not self.presence.leaving:
            return self.everyone
        leaving = self.presence.leaving
        draining = {place[0] for place, holder in self._holders().items() if holder in leaving}
        staying = [index for index in self.whole if index not in draining]
        hopeful = [one for one in self.everyone if one not in self.hopeless]
        return staying or self.whole or hopeful or self.everyone

    def stopped(self, index: int) -> bool:
        """Whether a pipeline lacks a stage, noticed or not."""
        return bool(self.lost_s) and any(place[0] == index for place in self.lost_s)

    def _holders(self) -> dict[Place, str]:
        return {
            (index, stage): worker.stage.node
            for index, workers in enumerate(self.network.pipelines)
            for stage, worker in enumerate(workers)
        }

    def warned(self, name: str) -> None:
        """Has others get ready for the stages of a node that will go."""
        for place, holder in self._holders().items():
            if holder == name and place not in self.lost_s:
                self._prepare(place)

    def _prepare(self, place: Place) -> None:
        """Has a node that stays load a stage; it takes the stage as soon as it has it.

        Where there is none, those who wait for a seat go elsewhere.
        """
        for name in self._candidates(place):
            if name in self.presence.leaving or not self._reachable(place, name):
                continue
            self.moving[place] = name
            loaded_s = self._loaded_s(place, name)
            self.service.at(loaded_s, partial(self._hand_over, place, name))
            return
        self.service.hand_on(place[0])

    def _loaded_s(self, place: Place, name: str) -> float:
        """When a node has loaded a stage, if it begins now (s)."""
        seats = self.plan.pipelines[place[0]].max_num_seqs
        return self.weights.load(place, name, self.service.now(), seats)

    def _reachable(self, place: Place, name: str) -> bool:
        """Whether a node has all links that a stage needs."""
        index, stage = place
        nodes = [worker.stage.node for worker in self.network.pipelines[index]]
        nodes[stage] = name
        ends = (*route(self.problem, nodes), (self.problem.cluster.coordinator, name))
        return all(self.problem.cluster.connected(*pair) for pair in ends)

    def _hand_over(self, place: Place, name: str) -> None:
        """Stops a pipeline for as long as it takes to move a stage off a node that will go."""
        if self.moving.get(place) != name or place in self.lost_s:
            return
        index, stage = place
        now_s, worker = self.service.now(), self.network.pipelines[index][stage]
        del self.moving[place]
        self.handed.add(place)
        self.service.interrupt(index, worker.stage.node)
        worker.lose(now_s)
        self.lost_s[place] = self.found_s[place] = now_s
        if not self._take_over(place):
            self._strand(place, worker.stage.node)

    def gone(self, name: str, announced: bool) -> None:
        """Stops the pipelines that a node was part of; its loss is noticed later, or known."""
        now_s = self.service.now()
        self.weights.lose(name, now_s)
        for place, holder in self._holders().items():
            if holder != name or (place in self.lost_s and place not in self.taking):
                continue
            index, stage = place
            self.counts["failures"] += 1
            self.service.interrupt(index, name)
            self.network.pipelines[index][stage].lose(now_s)
            self.taking.pop(place, None)
            self.moving.pop(place, None)
            self.handed.discard(place)
            self.lost_s.setdefault(place, now_s)
            self._notice_later(place, name, 0.0 if announced else self.problem.serving.detect_s)
        for place in [place for place, other in self.moving.items() if other == name]:
            del self.moving[place]
            self._prepare(place)

    def _notice_later(self, place: Place, name: str, after_s: float) -> None:
        def notice() -> None:
            if place in self.lost_s and place not in self.taking:
                self.found_s.setdefault(place, self.service.now())
                if not self._take_over(place):
                    self._strand(place, name)

        self.service.at(self.service.now() + after_s, notice)

    def back(self, name: str) -> None:
        """Has a node that is there again take what is lost."""
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
        """Nodes that may take a stage and are there and idle, in order of preference.

        Those that will go come last.
        """
        index, stage = place
        standbys = (
            standby.node
            for standby in self.plan.standbys
            if (standby.pipeline, standby.stage) == place
        )
        holders = self._holders()
        busy = {
            node
            for places in (holders, self.moving)
            for other, node in places.items()
            if other != place
        }
        there, leaving = self.presence.there, self.presence.leaving
        names = (self.plan.pipelines[index].nodes[stage], *standbys)
        idle = [name for name in names if there[name] and name not in busy]
        return sorted(idle, key=lambda name: name in leaving)

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

    def _replay(self, place: Place, attempt: int) -> None:
        """Sends the stored stage inputs of all seated sequences; the stage computes them again."""
        if self.taking.get(place) != attempt:
            return
        index, stage = place
        problem = self.problem
        quant = problem.quant(self.network.pipelines[index][stage - 1].stage.quant)
        hop = arrivals(problem, self.plan.pipelines[index])[stage]
        wire = self.network.routes[index][hop]
        waiting = []
        self.replayed_s[place] = 0.0
        for tokens in self.service.cached(index):
            sent_bytes = (
                hidden_payload_bytes(problem.model, quant, tokens)
                if stage
                else token_payload_bytes(tokens)
            )
            _, arrives_s = wire.send(problem, self.service.now(), sent_bytes, "prefill")
            waiting.append((arrives_s, Batch.prefill(tokens, silent=True)))
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
            self.replayed_s[place] += ends_s - began_s
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
        if place in self.handed:
            self.counts["handovers"] += 1
            self.handed.discard(place)
        else:
            self.counts["failovers"] += node != first
        lost_s, found_s = self.lost_s.pop(place), self.found_s.pop(place)
        del self.taking[place]
        replayed_s = self.replayed_s.pop(place, 0.0)
        self.recoveries.append(Recovery(index, stage, node, lost_s, found_s, now_s, replayed_s))
        if self.stopped(index):
            return
        self.service.resume(index)
        for other in sorted({other for other, _ in self.found_s} - {index}):
            if not any(place[0] == other for place in self.taking):
                self.counts["retries"] += self.service.move(other)
