"""Structure: how many replicas, which quantization, how many seats, and the best plan of that kind.

Sets: multisets of nodes by class.
Variables: R disjoint multisets, one pipeline over each.
Objective: the sum of what the pipelines bring (a ratio of sums for the price of tokens).
Constraints: budget and number of nodes over all of them, latency bounds for each.

Lazily exact: the values of the sets start as lower bounds from the tables. The best partition under
these values is found by dynamic programming over multisets; its sets are then solved exactly, until
the best partition uses exact values only. Nothing that was left unsolved can be better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from planner.core.cluster import Node
from planner.core.cost.ledger import standing_usd_per_hour
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.activity import home_usd_per_hour
from planner.plan.breakdown import Served
from planner.plan.classes import NodeClass
from planner.plan.costs import Array, criteria
from planner.plan.halt import Halt, never
from planner.plan.pipeline import best_pipeline
from planner.plan.predict import alone_usd_per_hour, load_of, predict, predicted, serve
from planner.plan.promise import (
    REFUSED,
    Promise,
    admissible,
    as_cost,
    combined,
    judge,
    objective_value,
    pipeline_cost,
    worst,
)
from planner.plan.prompt import Prompt
from planner.plan.tables import State, least, reach
from planner.plan.ways import Cut, assembled, ways

_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Best:
    """The best plan of one structure that was found, and a bound on any of that structure."""

    plan: Plan | None
    prediction: Prediction | None
    cost: float
    bound: float
    expanded: int

    @property
    def open(self) -> bool:
        """Whether the search ended before there was a plan, or certainty that there is none."""
        return self.plan is None and math.isfinite(self.bound)


@dataclass(slots=True)
class _Set:
    """A multiset of nodes: an optimistic promise until it is solved."""

    promise: Promise
    cuts: tuple[Cut, ...] | None = None
    solved: bool = False


@dataclass
class Structure:
    """One number of replicas, quantization and seats over given classes of nodes."""

    problem: Problem
    classes: tuple[NodeClass, ...]
    every: list[State]
    replicas: int
    quants: tuple[QuantScheme, ...]
    """What each stage may choose from."""
    seats: int
    sets: dict[State, _Set] = field(default_factory=dict)

    def __post_init__(self) -> None:
        share = 1 / self.replicas
        groups = min(self.problem.serving.micro_batches, self.seats)
        self.load = load_of(self.problem, self.seats, groups, share)
        self.judge = judge(self.problem, self.load, share)
        self.ways = ways(self.problem, self.classes, self.quants)
        self.owners = [way.owner for way in self.ways]
        self.criteria = criteria(self.problem, self.classes, self.ways, self.load)
        self.tables = [reach(criterion, self.owners, self.every) for criterion in self.criteria]
        for state in self.every:
            if any(state) and self._small_enough(state):
                given = self._judge(state, self._least(state))
                if math.isfinite(given.cost):
                    self.sets[state] = _Set(given)

    @property
    def holds(self) -> bool:
        """Whether any set of nodes can hold the model with these seats."""
        return any(math.isfinite(self._least(state)[0]) for state in self.every if any(state))

    @cached_property
    def floor(self) -> float:
        """No plan of this structure costs less, as far as the tables tell."""
        return self._partition(set())[0]

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Most nodes of each class, plus one."""
        return tuple(len(entry.nodes) + 1 for entry in self.classes)

    def best(self, limit: int, incumbent: float = math.inf, over: Halt = never) -> Best:
        """The best plan of this structure, looked for while it can beat ``incumbent``.

        The search ends after ``limit`` labels or where it is ``over``: ``open``, then.
        """
        expanded, refused, floor = 0, set[tuple[State, ...]](), self.floor
        while True:
            cost, parts = self._partition(refused)
            bound = floor if self._variable_costs and self.replicas > 1 else cost
            if not parts or cost >= incumbent:
                return Best(None, None, math.inf, bound, expanded)
            open_sets = [state for state in parts if not self.sets[state].solved]
            if not open_sets:
                plan = self._plan(parts)
                prediction = predict(self.problem, plan)
                value = objective_value(self.problem, prediction.metrics)
                if value is not None and admissible(self.problem, plan, prediction):
                    found = as_cost(self.problem, value)
                    return Best(plan, prediction, found, min(bound, found), expanded)
                refused.add(tuple(parts))
                expanded += 1
            if expanded >= limit or over():
                return Best(None, None, math.inf, bound, expanded)
            expanded += self._solve(open_sets[0], limit - expanded, over) if open_sets else 0

    def _solve(self, state: State, limit: int, over: Halt) -> int:
        """Makes one set exact; returns the labels it took."""
        entry = self.sets[state]
        found = best_pipeline(
            self.criteria,
            self.tables,
            self.owners,
            state,
            lambda vector: self._judge(state, vector),
            self._exact_cost,
            prune=not (self._variable_costs or self._shared_hosts or self._optimistic),
            limit=limit,
            over=over,
        )
        if found.cuts is None and math.isfinite(found.bound):
            return max(1, found.expanded)
        if found.cuts is None:
            del self.sets[state]
        else:
            self.sets[state] = _Set(self._exact(found.cuts), found.cuts, solved=True)
        entry.solved = True
        return found.expanded

    def _exact_cost(self, cuts: tuple[Cut, ...]) -> float:
        """What a pipeline adds to the objective; infinite where it breaks a must-have."""
        plan = self._assemble([cuts])
        one = serve(self.problem, plan.pipelines[0], 1 / self.replicas)
        if self.replicas == 1 and not admissible(
            self.problem, plan, predicted(self.problem, plan, [one])
        ):
            return math.inf
        return self._worth(one).cost

    @cached_property
    def _shared_hosts(self) -> bool:
        """Whether stages may slow each other, which no single criterion sees."""
        return any(node.host for node in self.problem.cluster.workers)

    @cached_property
    def _optimistic(self) -> bool:
        """Whether criteria tell but a bound: prompts overlap with themselves, or find a prefix."""
        return Prompt.of(self.problem, self.load).overlapping or bool(self.load.found_tokens)

    @cached_property
    def _variable_costs(self) -> bool:
        """Whether money decides and depends on more than which nodes are rented."""
        must, cluster = self.problem.requirements.must_have, self.problem.cluster
        money = any(term.startswith("usd") for term in self.problem.requirements.terms)
        money = money or must.usd_per_hour is not None
        money = money or must.usd_per_million_output_tokens is not None
        metered = any(link.usd_per_byte for link in cluster.links)
        return money and (metered or any(node.usd_per_joule for node in cluster.nodes))

    def _exact(self, cuts: tuple[Cut, ...]) -> Promise:
        """What a pipeline really brings, its energy and egress included."""
        pipeline = self._assemble([cuts]).pipelines[0]
        return self._worth(serve(self.problem, pipeline, 1 / self.replicas))

    def _worth(self, one: Served) -> Promise:
        """What a pipeline brings that is known under its share of the load."""
        share = 1 / self.replicas
        if one.felt.overloaded:
            return REFUSED
        usd = alone_usd_per_hour(self.problem, one) - self._home_usd
        cost = pipeline_cost(self.problem, one.felt, share, usd + share * self._home_usd)
        return Promise(cost, one.felt.requests_per_s, usd)

    def _judge(self, state: State, vector: Sequence[float]) -> Promise:
        home = self.problem.cluster.coordinator
        rent = sum(self._standing(node) for node in self._nodes(state) if node.id != home)
        return self.judge(vector, rent)

    def _least(self, state: State) -> list[float]:
        return [
            least(criterion, table[state])
            for criterion, table in zip(self.criteria, self.tables, strict=True)
        ]

    def _nodes(self, state: State) -> list[Node]:
        cluster = self.problem.cluster
        return [
            cluster.node(name)
            for entry, used in zip(self.classes, state, strict=True)
            for name in entry.nodes[:used]
        ]

    def _small_enough(self, state: State) -> bool:
        must, home = self.problem.requirements.must_have, self.problem.cluster.coordinator
        few = must.max_nodes is None or sum(state) <= must.max_nodes
        rent = self._home_usd
        rent += sum(self._standing(node) for node in self._nodes(state) if node.id != home)
        return few and (must.usd_per_hour is None or rent <= must.usd_per_hour * (1 + _SLACK))

    def _partition(self, refused: set[tuple[State, ...]]) -> tuple[float, list[State]]:
        """The cheapest disjoint sets under the present values; none where there are none."""
        if self.replicas == 1:
            ranked = sorted(
                (
                    combined(
                        self.problem,
                        s.promise.cost,
                        s.promise.requests_per_s,
                        self._home_usd + s.promise.usd_per_hour,
                    ),
                    sum(state),
                    state,
                )
                for state, s in self.sets.items()
                if (state,) not in refused
            )
            return (ranked[0][0], [ranked[0][2]]) if ranked else (math.inf, [])
        if self.problem.requirements.objective == "usd_per_million_output_tokens":
            return self._cheapest_tokens(refused)
        costs = {state: entry.promise.cost for state, entry in self.sets.items()}
        return self._cheapest_sum(costs, refused)

    @cached_property
    def _home_usd(self) -> float:
        """What the coordinator's node costs, whether it holds layers or not."""
        return home_usd_per_hour(self.problem)

    def _standing(self, node: Node) -> float:
        return standing_usd_per_hour(self.problem, node)

    def _cheapest_tokens(self, refused: set[tuple[State, ...]]) -> tuple[float, list[State]]:
        """Least ratio of cost to rate, by Dinkelbach's method (1967)."""
        ratio, parts = 0.0, list[State]()
        for _ in range(50):
            costs = {
                state: s.promise.usd_per_hour - ratio * s.promise.requests_per_s
                for state, s in self.sets.items()
            }
            _, found = self._cheapest_sum(costs, refused)
            if not found:
                return math.inf, []
            usd = self._home_usd + sum(self.sets[p].promise.usd_per_hour for p in found)
            rate = sum(self.sets[part].promise.requests_per_s for part in found)
            parts, better = found, usd / rate
            if ratio and better >= ratio * (1 - 1e-12):
                break
            ratio = better
        usd = self._home_usd + sum(self.sets[part].promise.usd_per_hour for part in parts)
        rate = sum(self.sets[part].promise.requests_per_s for part in parts)
        return combined(self.problem, 0.0, rate, usd), parts

    def _cheapest_sum(
        self, costs: dict[State, float], refused: set[tuple[State, ...]]
    ) -> tuple[float, list[State]]:
        """Least sum over R disjoint sets; ``layer[U]`` is the least over sets that make up U.

        Of percentiles, the least maximum.
        """
        join = np.maximum if worst(self.problem) else np.add
        start = np.full(self.shape, np.inf)
        start[(0,) * len(self.shape)] = -np.inf if worst(self.problem) else 0.0
        layers, picks = [start], []
        order = sorted(state for state, cost in costs.items() if math.isfinite(cost))
        for _ in range(self.replicas):
            before = layers[-1]
            after, pick = np.full(self.shape, np.inf), np.full(self.shape, -1)
            for number, state in enumerate(order):
                to = tuple(slice(used, None) for used in state)
                size = zip(self.shape, state, strict=True)
                away = tuple(slice(0, most - used) for most, used in size)
                offered = join(before[away], costs[state])
                better = offered < after[to]
                after[to] = np.where(better, offered, after[to])
                pick[to] = np.where(better, number, pick[to])
            layers.append(after)
            picks.append(pick)
        return self._cheapest_union(layers[-1], picks, order, refused)

    def _cheapest_union(
        self,
        totals: Array,
        picks: list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]],
        order: list[State],
        refused: set[tuple[State, ...]],
    ) -> tuple[float, list[State]]:
        """The cheapest union that budget and number of nodes allow, taken apart again."""
        for flat in np.argsort(totals, axis=None, kind="stable"):
            union = tuple(int(i) for i in np.unravel_index(int(flat), totals.shape))
            if not math.isfinite(totals[union]):
                break
            if not self._small_enough(union):
                continue
            parts, rest = [], union
            for pick in reversed(picks):
                state = order[int(pick[rest])]
                parts.append(state)
                rest = tuple(a - b for a, b in zip(rest, state, strict=True))
            if tuple(parts) not in refused:
                return float(totals[union]), parts
        return math.inf, []

    def _plan(self, parts: Sequence[State]) -> Plan:
        cuts = [self.sets[state].cuts for state in parts]
        return self._assemble([each for each in cuts if each is not None])

    def _assemble(self, pipelines: Sequence[tuple[Cut, ...]]) -> Plan:
        """A plan from cuts."""
        return assembled(self.classes, self.ways, pipelines, self.load)
