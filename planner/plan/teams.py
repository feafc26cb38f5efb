"""Teams: nodes that hold a pipeline, with others that stand by for it, and how much both keep.

A stage whose node is away is held by a standby that is there, one stage each. So of the time a
pipeline serves at most the share in which no more of its stages lack their node than standbys are
there, whatever these are able to hold. Of that it loses what taking over takes at least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.core.cost.availability import fate, node_up_share
from planner.core.cost.ledger import standing_usd_per_hour
from planner.core.metrics import usd_per_million
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.activity import home_usd_per_hour
from planner.plan.classes import NodeClass
from planner.plan.costs import Array, Kinds
from planner.plan.goodput import most_kept
from planner.plan.promise import Promise
from planner.plan.standby import weighed
from planner.plan.tables import State
from planner.plan.takeover import Takeover

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What standbys come to at best, each part for several choices of them or for one."""

    there: Array
    """Share of the time in which every stage has a node."""
    serving: Array
    """Share of the time in which none is being made good, either."""
    usd_per_hour: Array
    """Rent."""


Worth = Callable[[Promise, Standing], Array]
"""What teams of one pipeline cost."""
Team = tuple[State, State]
"""Nodes that hold a pipeline, and all of a team."""
_SLACK = 1e-9


@dataclass(frozen=True)
class Teams:
    """Every way to split multisets of nodes into those of a pipeline and its standbys."""

    problem: Problem
    classes: tuple[NodeClass, ...]
    every: list[State]
    takeover: Takeover

    @classmethod
    def of(
        cls,
        problem: Problem,
        classes: tuple[NodeClass, ...],
        every: list[State],
        quants: tuple[QuantScheme, ...],
    ) -> Teams | None:
        """Teams of stages in any of these quantizations; None where nobody asks who stands by."""
        if not weighed(problem):
            return None
        return cls(problem, classes, every, Takeover(problem, quants))

    def cheapest(
        self, promises: Mapping[State, Promise], worth: Worth
    ) -> tuple[dict[State, float], dict[State, State]]:
        """By all nodes of a team the least that it costs, and which of them hold the pipeline."""
        least, whose = np.full(len(self.every), np.inf), np.full(len(self.every), -1)
        holders = list(promises)
        for number, state in enumerate(holders):
            union, standing = self._splits(state)
            cost = worth(promises[state], standing)
            better = cost < least[union]
            least[union[better]], whose[union[better]] = cost[better], number
        found = np.flatnonzero(np.isfinite(least)).tolist()
        costs = {self.every[at]: float(least[at]) for at in found}
        return costs, {self.every[at]: holders[int(whose[at])] for at in found}

    def alone(self, promise: Promise, standing: Standing) -> Array:
        """What a team costs that is the whole plan; infinite where a must-have is missed."""
        must, usd_per_hour = self.problem.requirements.must_have, standing.usd_per_hour
        answered, good = most_kept(self.problem, promise.used, standing.serving)
        price = self._price(
            home_usd_per_hour(self.problem) + promise.usd_per_hour + usd_per_hour,
            promise.requests_per_s * answered,
        )
        priced = self.problem.requirements.objective == "usd_per_million_output_tokens"
        cost = price if priced else self._added(promise, good, usd_per_hour)
        kept = standing.there >= (must.availability or 0.0) * (1 - _SLACK)
        kept &= promise.requests_per_s * good >= (must.request_goodput or 0.0) * (1 - _SLACK)
        if must.usd_per_million_output_tokens is not None:
            kept &= price <= must.usd_per_million_output_tokens * (1 + _SLACK)
        return np.where(kept, cost, np.inf)

    def side_by_side(self, price: float | None) -> Worth:
        """What a team adds to the objective; its rent less a price of what it answers, if given."""

        def worth(promise: Promise, standing: Standing) -> Array:
            answered, good = most_kept(self.problem, promise.used, standing.serving)
            if price is None:
                return self._added(promise, good, standing.usd_per_hour)
            usd = promise.usd_per_hour + standing.usd_per_hour
            return usd - price * promise.requests_per_s * answered

        return worth

    def sums(self, promises: Mapping[State, Promise], teams: Sequence[Team]) -> tuple[float, float]:
        """USD per hour and requests answered per second of teams side by side."""
        usd, rate = home_usd_per_hour(self.problem), 0.0
        for state, union in teams:
            promise, standing = promises[state], self._of(state, union)
            usd += promise.usd_per_hour + float(standing.usd_per_hour)
            answered, _ = most_kept(self.problem, promise.used, standing.serving)
            rate += promise.requests_per_s * float(answered)
        return usd, rate

    def able(self, promises: Mapping[State, Promise], teams: Sequence[Team]) -> bool:
        """Whether these teams side by side can keep the must-haves that standbys serve."""
        if not teams:
            return False
        must, there, good = self.problem.requirements.must_have, 0.0, 0.0
        for state, union in teams:
            promise, standing = promises[state], self._of(state, union)
            there += float(standing.there) / len(teams)
            _, kept_good = most_kept(self.problem, promise.used, standing.serving)
            good += promise.requests_per_s * float(kept_good)
        kept = there >= (must.availability or 0.0) * (1 - _SLACK)
        kept = kept and good >= (must.request_goodput or 0.0) * (1 - _SLACK)
        most = must.usd_per_million_output_tokens
        if most is None:
            return kept
        usd, rate = self.sums(promises, teams)
        return kept and float(self._price(np.array(usd), np.array(rate))) <= most * (1 + _SLACK)

    def _added(self, promise: Promise, good: Array, usd_per_hour: Array) -> Array:
        """What a team adds to a sum."""
        weight = self.problem.requirements.terms.get("usd_per_hour", 0.0)
        return promise.cost - promise.goodput_cost * (1 - good) + weight * usd_per_hour

    def _price(self, usd_per_hour: Array, requests_per_s: Array) -> Array:
        """USD for a million tokens; infinite where none is answered."""
        workload, in_use = self.problem.workload, self.problem.deployment.in_use
        tokens_per_s = requests_per_s * workload.output.mean_tokens * in_use
        with np.errstate(divide="ignore"):
            return usd_per_hour * usd_per_million(1.0, 1.0) / tokens_per_s

    def _of(self, state: State, union: State) -> Standing:
        """What the rest of a team comes to."""
        unions, standing = self._splits(state)
        at = np.flatnonzero(unions == self._place[int(np.array(union) @ self._strides)])[0]
        return Standing(standing.there[at], standing.serving[at], standing.usd_per_hour[at])

    def _splits(self, state: State) -> tuple[Kinds, Standing]:
        """Numbers of all teams of a pipeline over these nodes, and what their standbys come to."""
        if state not in self._known:
            names = self._names(state)
            free = np.flatnonzero((self._states + state <= self._states[-1]).all(axis=1))
            union = self._place[(self._states[free] + state) @ self._strides]
            lacking = _lacking(self.problem, names)
            there = self._there[free, : len(lacking)] @ lacking
            backed = [[], *map(list, self._several)]
            taken_s = np.array([self.takeover.least_s(names, each) for each in backed])
            left = serving(there, taken_s[self._kinds[free]])
            for at in np.flatnonzero(self._states[free].sum(axis=1) == 1).tolist():
                (standby,) = self._names(self.every[free[at]])
                left[at] = self._with_one(names, standby, there[at])
            self._known[state] = union, Standing(there, left, self._usd_per_hour[free])
        return self._known[state]

    def _with_one(self, names: list[str], standby: str, there: Array) -> float:
        """The most of the time that one standby leaves: it backs every stage, or leaves one out."""
        cluster, everyone = (
            self.problem.cluster,
            self.takeover.least_s(names, [standby], every=True),
        )
        best = float(serving(there, np.array(everyone)))
        taken_s = np.array(self.takeover.least_s(names, [standby]))
        up = node_up_share(cluster, standby)
        for name in names:
            alone = fate(cluster, name)
            rest = [other for other in names if fate(cluster, other) != alone]
            lacking = _lacking(self.problem, rest)
            share = node_up_share(cluster, name) * (lacking[0] + up * lacking[1:2].sum())
            best = max(best, float(serving(np.array(share), taken_s)))
        return best

    @cached_property
    def _several(self) -> list[tuple[str, ...]]:
        """For each class nodes that are no quicker with weights; two of a class stand for it.

        Several standbys are among those of the quickest of them.
        """
        each_s = [self.takeover.byte_s(entry.example) for entry in self.classes]
        return [
            tuple(
                dict.fromkeys(
                    name
                    for other, entry in zip(each_s, self.classes, strict=True)
                    if other >= quickest
                    for name in (entry.nodes[0], entry.nodes[-1])
                )
            )
            for quickest in each_s
        ]

    @cached_property
    def _kinds(self) -> Kinds:
        """[number]: 0 for no node, 1 + the quickest class with weights for others."""
        each_s = np.array([self.takeover.byte_s(entry.example) for entry in self.classes])
        times = np.where(self._states > 0, each_s, np.inf)
        return np.where(self._states.any(axis=1), 1 + times.argmin(axis=1), 0)

    @cached_property
    def _known(self) -> dict[State, tuple[Kinds, Standing]]:
        return {}

    @cached_property
    def _states(self) -> Kinds:
        """[number, class]; the last one has all nodes."""
        return np.array(self.every)

    @cached_property
    def _strides(self) -> Kinds:
        sizes = [len(entry.nodes) + 1 for entry in self.classes]
        return np.array([int(np.prod(sizes[at + 1 :])) for at in range(len(sizes))])

    @cached_property
    def _place(self) -> Kinds:
        """Number of a state by its place in a grid of all."""
        return np.argsort(self._states @ self._strides)

    @cached_property
    def _there(self) -> Array:
        """[number, n]: chance that n of these nodes are there at least."""
        width = int(self._states[-1].sum()) + 1
        rows = np.zeros((len(self.every), width))
        for number, state in enumerate(self.every):
            shares = [node_up_share(self.problem.cluster, name) for name in self._names(state)]
            count = counted((share, 1) for share in shares)
            rows[number, : len(count)] = np.cumsum(count[::-1])[::-1]
        return rows

    @cached_property
    def _usd_per_hour(self) -> Array:
        """[number]: what these nodes cost that do nothing else."""
        cluster = self.problem.cluster
        return np.array(
            [
                sum(
                    standing_usd_per_hour(self.problem, cluster.node(name))
                    for name in self._names(state)
                    if name != cluster.coordinator
                )
                for state in self.every
            ]
        )

    def _names(self, state: State) -> list[str]:
        pairs = zip(self.classes, state, strict=True)
        return [name for entry, used in pairs for name in entry.nodes[:used]]


def counted(chances: Iterable[tuple[float, int]]) -> Array:
    """[n]: chance that independent events of the given sizes sum to n."""
    row = np.ones(1)
    for chance, size in chances:
        after = np.zeros(len(row) + size)
        after[: len(row)] = row * (1 - chance)
        after[size:] += row * chance
        row = after
    return row


def serving(there: Array, taken_s: Array) -> Array:
    """Share of the time that is left of what nodes are there, as in ``Outage.recovering_s``."""
    left: Array = there * np.exp(-taken_s / _HOUR_S / np.maximum(there, 1e-300))
    return left


def _lacking(problem: Problem, names: list[str]) -> Array:
    """[n]: chance that n of these nodes are away; those of one fate are so together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        groups.setdefault(fate(problem.cluster, name), []).append(name)
    return counted(
        (1 - node_up_share(problem.cluster, group[0]), len(group)) for group in groups.values()
    )
