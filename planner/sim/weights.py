"""Weights: which node has those of which stage, loaded or on disk, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.core.cost.loading import load_s, weights_bytes
from planner.core.problem import Problem
from planner.sim.network import Network

Place = tuple[int, int]
"""Pipeline and stage."""


@dataclass(slots=True)
class Weights:
    """What nodes hold, and what they are getting over their links from the coordinator."""

    problem: Problem
    network: Network
    _ready_s: dict[tuple[Place, str], float] = field(default_factory=dict)
    """By stage and node: when it has, or will have, loaded it."""
    _stored_s: dict[tuple[Place, str], float] = field(default_factory=dict)
    """By stage and node: when all weights are, or will be, on its disk."""

    def held(self, place: Place, name: str) -> None:
        """Notes that a node has loaded a stage from the beginning."""
        self._ready_s[place, name] = self._stored_s[place, name] = 0.0

    def stored(self, place: Place, name: str) -> None:
        """Notes that a node has the weights of a stage on its disk from the beginning."""
        self._stored_s[place, name] = 0.0

    def load(self, place: Place, name: str, now_s: float, seats: int) -> float:
        """When a node has loaded a stage, for which it gets the weights if it lacks them (s).

        A process holds one stage: what it held before is on disk from then on.
        """
        ready_s = self._ready_s.get((place, name))
        if ready_s is None:
            stage = self.network.pipelines[place[0]][place[1]].stage
            stored_s = self._download(place, name, now_s)
            ready_s = stored_s + load_s(self.problem, stage, name, seats)
            for other in [held for held in self._ready_s if held[1] == name]:
                del self._ready_s[other]
            self._ready_s[place, name] = ready_s
        return max(now_s, ready_s)

    def _download(self, place: Place, name: str, now_s: float) -> float:
        """When the weights of a stage are on a node's disk (s)."""
        stored_s = self._stored_s.get((place, name))
        if stored_s is None:
            wire = self.network.wire(self.problem.cluster.coordinator, name)
            stage = self.network.pipelines[place[0]][place[1]].stage
            size_bytes = weights_bytes(self.problem, stage)
            wire.sent_bytes += size_bytes
            wire.weights_bytes += size_bytes
            stored_s = now_s + wire.carriers["prefill"].transfer(size_bytes).total_s
            self._stored_s[place, name] = stored_s
        return max(now_s, stored_s)

    def lose(self, name: str, now_s: float) -> None:
        """Forgets what a node that goes was loading; a rented one loses what it had as well."""
        kept = self.problem.cluster.node(name).trust != "rented"
        for known in (self._ready_s, self._stored_s):
            for place, node in list(known):
                if node == name and not (kept and known[place, node] <= now_s):
                    del known[place, node]
