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

from planner.core.cost.ledger import standing_usd_per_hour
from planner.core.cost.outage import NEVER
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.activity import home_usd_per_hour
from planner.plan.breakdown import Served, pipeline_metrics
from planner.plan.classes import NodeClass
from planner.plan.costs import criteria
from planner.plan.goodput import outages
from planner.plan.halt import Halt, never
from planner.plan.partition import Partition
from planner.plan.pipeline import best_pipeline
from planner.plan.predict import alone_usd_per_hour, load_of, metrics_of, predict, serve
from planner.plan.promise import (
    REFUSED,
    Promise,
    as_cost,
    judge,
    objective_value,
    promised,
)
from planner.plan.prompt import Prompt
from planner.plan.standby import may_keep, promising
from planner.plan.tables import State, least, reach
from planner.plan.teams import Teams
from planner.plan.ways import Cut, assembled, ways

_SLACK = 1e-9
_REFUSED = 1000
"""Labels that a partition counts as which was found in vain."""


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
    teams: Teams | None
    """Pipelines with those that stand by for them, where that counts; of these quantizations."""
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

    def best(self, limit: int, incumbent: float = math.inf, over: Halt = never) -> Best:
        """The best plan of this structure, looked for while it can beat ``incumbent``.

        The search ends after ``limit`` labels or where it is ``over``: ``open``, then.
        """
        expanded, refused, floor, missed = 0, set[tuple[State, ...]](), self.floor, math.inf
        while True:
            cost, parts, able = self._partition(refused)
            bound = min(missed, floor if self._sums_vary else cost)
            if not parts or cost >= incumbent:
                return Best(None, None, math.inf, bound, expanded)
            open_sets = [state for state in parts if not self.sets[state].solved] if able else []
            if able and not open_sets:
                plan = self._plan(parts)
                prediction = predict(self.problem, plan)
                value = objective_value(self.problem, prediction.metrics)
                if value is not None and promising(self.problem, plan, prediction):
                    found = as_cost(self.problem, value)
                    return Best(plan, prediction, found, min(bound, found), expanded)
            if not open_sets:
                refused.add(tuple(parts))
                expanded += 1 if self.teams is None else _REFUSED
                missed = math.inf if self.teams is None else min(missed, cost)
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
        if self.replicas == 1 and not self._able(plan, one):
            return math.inf
        return self._worth(one).cost

    def _able(self, plan: Plan, one: Served) -> bool:
        """Whether a pipeline that is the whole plan may keep every must-have."""
        varies = self._variable_costs or self.problem.serving.verification is not None
        out = outages(self.problem, plan, [one]) if varies else [NEVER]  # they move no figure, then
        metrics = metrics_of(self.problem, plan, [one], out)
        each = [pipeline_metrics(self.problem, one.felt)]
        return may_keep(self.problem, plan, metrics, each)

    @cached_property
    def _shared_hosts(self) -> bool:
        """Whether stages may slow each other, which no single criterion sees."""
        return any(node.host for node in self.problem.cluster.workers)

    @cached_property
    def _optimistic(self) -> bool:
        """Whether criteria tell but a bound: prompts overlap with themselves, or find a prefix."""
        return Prompt.of(self.problem, self.load).overlapping or bool(self.load.found_tokens)

    @cached_property
    def _sums_vary(self) -> bool:
        """Whether the best pipeline by itself need not be the best part of a plan."""
        if self.teams is not None and self.problem.requirements.objective == "weighted":
            return True
        return self._variable_costs and (self.replicas > 1 or self.teams is not None)

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
        if self.teams is not None and not self._variable_costs:
            usd = self._rent(one.pipeline.nodes)  # whatever is loaded: the rate alone decides, then
        else:
            usd = alone_usd_per_hour(self.problem, one) - self._home_usd
        return promised(self.problem, one.felt, share, usd, share * self._home_usd)

    def _judge(self, state: State, vector: Sequence[float]) -> Promise:
        return self.judge(vector, self._rent(self._nodes(state)))

    def _least(self, state: State) -> list[float]:
        return [
            least(criterion, table[state])
            for criterion, table in zip(self.criteria, self.tables, strict=True)
        ]

    def _nodes(self, state: State) -> list[str]:
        return [
            name
            for entry, used in zip(self.classes, state, strict=True)
            for name in entry.nodes[:used]
        ]

    def _small_enough(self, state: State) -> bool:
        must = self.problem.requirements.must_have
        few = must.max_nodes is None or sum(state) <= must.max_nodes
        rent = self._home_usd + self._rent(self._nodes(state))
        return few and (must.usd_per_hour is None or rent <= must.usd_per_hour * (1 + _SLACK))

    @cached_property
    def _home_usd(self) -> float:
        """What the coordinator's node costs, whether it holds layers or not."""
        return home_usd_per_hour(self.problem)

    def _rent(self, names: Sequence[str]) -> float:
        """What nodes cost whatever they do, the coordinator's apart."""
        return sum(map(self._standing.__getitem__, names))

    @cached_property
    def _standing(self) -> dict[str, float]:
        cluster = self.problem.cluster
        return {
            node.id: 0.0
            if node.id == cluster.coordinator
            else standing_usd_per_hour(self.problem, node)
            for node in cluster.workers
        }

    def _partition(self, refused: set[tuple[State, ...]]) -> tuple[float, list[State], bool]:
        """The cheapest disjoint sets under the present values, as in ``Partition``."""
        promises = {state: one.promise for state, one in self.sets.items()}
        return self._parted.cheapest(promises, refused)

    @cached_property
    def _parted(self) -> Partition:
        most = tuple(len(entry.nodes) for entry in self.classes)
        return Partition(self.problem, self.replicas, most, self.teams, self._small_enough)

    def _plan(self, parts: Sequence[State]) -> Plan:
        cuts = [self.sets[state].cuts for state in parts]
        return self._assemble([each for each in cuts if each is not None])

    def _assemble(self, pipelines: Sequence[tuple[Cut, ...]]) -> Plan:
        """A plan from cuts."""
        return assembled(self.classes, self.ways, pipelines, self.load)
