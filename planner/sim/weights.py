"""Weights: which node has those of which stage, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.core.cost.loading import weights_bytes
from planner.core.problem import Problem
from planner.sim.network import Network

Place = tuple[int, int]
"""Pipeline and stage."""


@dataclass(slots=True)
class Weights:
    """What nodes hold, and what they are loading over their links from the coordinator."""

    problem: Problem
    network: Network
    _ready_s: dict[tuple[Place, str], float] = field(default_factory=dict)
    """By stage and node: when it has, or will have, all of them."""

    def held(self, place: Place, name: str) -> None:
        """Notes that a node has the weights of a stage from the beginning."""
        self._ready_s[place, name] = 0.0

    def load(self, place: Place, name: str, now_s: float) -> float:
        """When a node has the weights of a stage: now, or once they are downloaded (s)."""
        ready_s = self._ready_s.get((place, name))
        if ready_s is None:
            wire = self.network.wire(self.problem.cluster.coordinator, name)
            stage = self.network.pipelines[place[0]][place[1]].stage
            size_bytes = weights_bytes(self.problem, stage)
            wire.sent_bytes += size_bytes
            wire.weights_bytes += size_bytes
            ready_s = now_s + wire.carriers["prefill"].transfer(size_bytes).total_s
            self._ready_s[place, name] = ready_s
        return max(now_s, ready_s)

    def lose(self, name: str, now_s: float) -> None:
        """Forgets what a node that goes was loading; a rented one loses what it had as well."""
        kept = self.problem.cluster.node(name).trust != "rented"
        self._ready_s = {
            (place, node): ready_s
            for (place, node), ready_s in self._ready_s.items()
            if node != name or (kept and ready_s <= now_s)
        }
