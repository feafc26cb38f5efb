"""Headcount: what losses cost plans at least, by how many nodes hold layers and stand by.

Large clusters are searched as if no node were ever lost. Of that a pipeline over *k* nodes with
*m* standbys keeps at most what it would over the steadiest nodes there are, with the steadiest
standbys and the least time of taking over that any of them has. All teams share the nodes, so
what pipelines keep together is bounded by how many each can have.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.core.cost.availability import fate, node_up_share
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.activity import rents_usd_per_hour
from planner.plan.classes import allowed_nodes
from planner.plan.costs import Array
from planner.plan.promise import Promise
from planner.plan.room import capacity_bytes, needs
from planner.plan.standby import weighed
from planner.plan.takeover import Line, Takeover
from planner.plan.teams import counted, serving


@dataclass(frozen=True)
class Headcount:
    """Replicas with so many seats, in any of these quantizations, and what losses leave of them."""

    problem: Problem
    quants: tuple[QuantScheme, ...]
    replicas: int
    seats: int

    def raised(self, bound: float, best: Promise) -> float:
        """A bound on costs without losses made one with them; ``best`` is a pipeline at best."""
        objective = self.problem.requirements.objective
        if not self._counts or not (math.isfinite(bound) and math.isfinite(best.cost)):
            return bound
        if objective == "goodput":
            return max(bound, -self._kept(-bound, -best.cost))
        if objective == "usd_per_million_output_tokens":
            return self._priced(bound, best.requests_per_s)
        return bound

    @property
    def _counts(self) -> bool:
        """Whether users wait until a pipeline is back: of open arrivals none may be lost."""
        return weighed(self.problem) and self.problem.workload.concurrency is not None

    def _kept(self, total: float, most: float) -> float:
        """Goodput of all pipelines, which have so much together and each without losses."""
        if total <= 0 or most <= 0:
            return total
        share = self._share
        full = min(self.replicas, int(total / most))
        rest = min(total / most - full, 1.0) if full < self.replicas else 0.0
        idle = self.replicas - full - (rest > 0)
        free = len(share) - 1 - max(0, idle) * self._fewest
        best = np.where(np.arange(len(share)) <= free, 0.0, -np.inf)  # of 0 nodes or more
        for weight in [1.0] * full + [rest] * (rest > 0):
            after = np.full(len(share), -np.inf)
            for nodes in range(self._fewest, free + 1):
                offered = best[: free + 1 - nodes] + weight * share[nodes]
                after[nodes : free + 1] = np.maximum(after[nodes : free + 1], offered)
            best = after
        reached = float(best.max())
        return min(total, most * reached) if math.isfinite(reached) else total

    def _priced(self, price: float, requests_per_s: float) -> float:
        """Price of the pipeline whose tokens are cheapest, its standbys' rent included.

        No plan is cheaper than that. Each token costs what it does without losses and its share of
        that rent, the least where it serves as many requests as any can.
        """
        workload, in_use = self.problem.workload, self.problem.deployment.in_use
        tokens = 3600 / 1e6 * requests_per_s * workload.output.mean_tokens * in_use
        if not tokens:
            return price
        spare = sorted(rents_usd_per_hour(self.problem, self._names))
        found = math.inf
        for standbys in range(len(spare) - self._fewest + 1):
            kept = self._at_most(self._fewest, standbys)
            rent = sum(spare[:standbys])
            found = min(found, (price + rent / tokens) / kept if kept else math.inf)
        return max(price, found)

    @cached_property
    def _share(self) -> Array:
        """[nodes]: of the time that a team of so many nodes serves at most."""
        count, fewest = self._most, self._fewest
        row = [0.0] * fewest + [self._at_most(fewest, n - fewest) for n in range(fewest, count + 1)]
        return np.array(row[: count + 1])

    def _at_most(self, holders: int, standbys: int) -> float:
        """The same with so many that hold layers; more of them are away no less often.

        Nodes that go together count as one, as many as do at most.
        """
        groups = math.ceil(holders / self._together)
        lacking = counted((1 - share, 1) for share in self._steadiest[:groups])
        there = counted((share, 1) for share in self._steadiest[:standbys])
        up = np.cumsum(there[::-1])[::-1]
        least = float(lacking[: len(up)] @ up[: len(lacking)])
        fixed_s, byte_s = self._takes[standbys > 0]
        taken_s = groups * fixed_s + byte_s * self._takeover.weights_bytes
        return float(serving(np.array(least), np.array(taken_s)))

    @cached_property
    def _takes(self) -> tuple[Line, Line]:
        """What a stage takes at least: alone, and backed by any of the nodes."""
        cluster, takeover = self.problem.cluster, self._takeover
        kinds = dict[object, str]()
        for name in self._names:
            node = cluster.node(name)
            kinds.setdefault((node.churn, node.trust, takeover.byte_s(name)), name)
        each = list(kinds.values())
        fates = {cluster.node(name).churn: name for name in each}
        found = []
        for lines in (
            [takeover.stage(name, ()) for name in each],
            [takeover.stage(name, each) for name in fates.values()],
        ):
            byte_s = min(b for _, b in lines) if self._together == 1 else 0.0
            found.append((min(a for a, _ in lines), byte_s))
        return found[0], found[1]

    @cached_property
    def _takeover(self) -> Takeover:
        return Takeover(self.problem, self.quants)

    @cached_property
    def _names(self) -> list[str]:
        return [node.id for node in allowed_nodes(self.problem)]

    @cached_property
    def _steadiest(self) -> list[float]:
        shares = (node_up_share(self.problem.cluster, name) for name in self._names)
        return sorted(shares, reverse=True)

    @cached_property
    def _together(self) -> int:
        """Most nodes that go together."""
        return max(Counter(fate(self.problem.cluster, name) for name in self._names).values())

    @property
    def _most(self) -> int:
        most = self.problem.requirements.must_have.max_nodes
        return len(self._names) if most is None else min(most, len(self._names))

    @cached_property
    def _fewest(self) -> int:
        """Nodes that hold the model at least."""
        layers = self.problem.model.num_hidden_layers
        whole = [needs(self.problem, 0, layers, one.id, self.seats) for one in self.quants]
        left = min(one.weights_bytes + one.kv_bytes for one in whole)
        rooms = sorted((capacity_bytes(self.problem, name) for name in self._names), reverse=True)
        for count, room in enumerate(rooms, 1):
            left -= room
            if left <= 0:
                return count
        return max(1, len(rooms))
