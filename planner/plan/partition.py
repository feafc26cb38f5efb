"""Partition: the cheapest disjoint sets of nodes under given values, one for each replica.

Of sets that pipelines share with standbys, teams are parted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.core.problem import Problem
from planner.plan.activity import home_usd_per_hour
from planner.plan.promise import Promise, combined, worst
from planner.plan.splits import Splits
from planner.plan.tables import State
from planner.plan.teams import Team, Teams

Promises = Mapping[State, Promise]
"""What a pipeline over each set brings."""


@dataclass(frozen=True)
class Partition:
    """Sets for so many replicas, of up to ``most`` nodes of each class."""

    problem: Problem
    replicas: int
    most: State
    teams: Teams | None
    """Where it counts who stands by."""
    small_enough: Callable[[State], bool]
    """Whether budget and number of nodes allow a set in all."""

    def cheapest(
        self, promises: Promises, refused: set[tuple[State, ...]]
    ) -> tuple[float, list[State], bool]:
        """The cheapest disjoint sets that hold layers; none where there are none.

        Last: whether the must-haves that standbys serve can be kept with them.
        """
        if self.replicas == 1:
            cost, parts = self._cheapest_one(promises, refused)
            return cost, parts, True
        if self.problem.requirements.objective == "usd_per_million_output_tokens":
            cost, teams = self._cheapest_tokens(promises, refused)
        else:
            cost, teams = self._cheapest_sum(*self._costs(promises, None), refused)
        able = self.teams is None or self.teams.able(promises, teams)
        return cost, [state for state, _ in teams], able

    def _cheapest_one(
        self, promises: Promises, refused: set[tuple[State, ...]]
    ) -> tuple[float, list[State]]:
        """The cheapest set by itself."""
        promises = {s: one for s, one in promises.items() if (s,) not in refused}
        if self.teams is not None:
            costs, whose = self.teams.cheapest(promises, self.teams.alone)
        else:
            whose, home_usd = {s: s for s in promises}, home_usd_per_hour(self.problem)
            costs = {
                state: combined(
                    self.problem, one.cost, one.requests_per_s, home_usd + one.usd_per_hour
                )
                for state, one in promises.items()
            }
        ranked = sorted((cost, sum(state), state) for state, cost in costs.items())
        for cost, _, state in ranked:
            if self.small_enough(state):
                return cost, [whose[state]]
        return math.inf, []

    def _costs(
        self, promises: Promises, price: float | None
    ) -> tuple[dict[State, float], dict[State, State]]:
        """What sets, with those that stand by for them, cost; and which of them hold layers."""
        if self.teams is not None:
            return self.teams.cheapest(promises, self.teams.side_by_side(price))
        costs = {
            state: one.cost if price is None else one.usd_per_hour - price * one.requests_per_s
            for state, one in promises.items()
        }
        return costs, {state: state for state in costs}

    def _sums(self, promises: Promises, teams: Sequence[Team]) -> tuple[float, float]:
        """USD and requests that are answered, per hour and per second."""
        if self.teams is not None:
            return self.teams.sums(promises, teams)
        each = [promises[state] for state, _ in teams]
        usd = home_usd_per_hour(self.problem) + sum(one.usd_per_hour for one in each)
        return usd, sum(one.requests_per_s for one in each)

    def _cheapest_tokens(
        self, promises: Promises, refused: set[tuple[State, ...]]
    ) -> tuple[float, list[Team]]:
        """Least ratio of cost to rate, by Dinkelbach's method (1967)."""
        ratio, teams = 0.0, list[Team]()
        for _ in range(50):
            _, found = self._cheapest_sum(*self._costs(promises, ratio), refused)
            if not found:
                return math.inf, []
            usd, rate = self._sums(promises, found)
            teams, better = found, usd / rate
            if ratio and better >= ratio * (1 - 1e-12):
                break
            ratio = better
        usd, rate = self._sums(promises, teams)
        return combined(self.problem, 0.0, rate, usd), teams

    def _cheapest_sum(
        self,
        costs: dict[State, float],
        whose: dict[State, State],
        refused: set[tuple[State, ...]],
    ) -> tuple[float, list[Team]]:
        """Least sum over R disjoint sets; of percentiles, the least maximum."""
        splits = Splits(costs, self.replicas, self.most, maximum=worst(self.problem))

        def usable(nodes: tuple[State, ...]) -> bool:
            return tuple(whose[each] for each in nodes) not in refused

        cost, nodes = splits.cheapest(self.small_enough, usable)
        return cost, [(whose[each], each) for each in nodes]
