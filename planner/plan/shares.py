"""Shares: how the pipelines of a plan split the load, which its routing weights say.

Sets: the plan's pipelines; whole units of the load: users of a closed loop, some at once where
there are many, or parts of the rate.
Variables: how many units each pipeline gets, one at least.
Objective: the plan's: a sum of what pipelines bring, the worst of them, or a ratio of two sums.
Constraints: every unit once; latency bounds for each pipeline; seats for its users, unless not even
an equal share of them has seats: users who wait in line would make the others' tokens faster.

Pipelines bring their part whatever the others get, so dynamic programming over them is exact. Only
where they wait for each other at one coordinator is that left out, and the whole prediction decides
whether the weights are better than equal ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from planner.core.choice import decided
from planner.core.cost.ledger import ledger, total_usd_per_hour
from planner.core.plan import Pipeline, Plan
from planner.core.problem import Problem
from planner.plan.activity import home_usd_per_hour
from planner.plan.balance import balanced
from planner.plan.breakdown import Served
from planner.plan.choices import mixes, most_replicas
from planner.plan.predict import predict, serve
from planner.plan.promise import (
    REFUSED,
    Promise,
    admissible,
    as_cost,
    keeps,
    objective_value,
    pipeline_cost,
    worst,
)
from planner.plan.room import overfull
from planner.plan.routed import done_per_s
from planner.plan.solution import Candidate

_UNITS = 64
"""Units of the load at most; no fewer than users where they are that few."""
_PARTS = 16
"""Units of an open load for each pipeline."""
_FEW, _TIMES = 16, 4
"""Units of which any split is looked at; of more, no pipeline gets so many times an equal share."""
_ROUNDING = 1e-9
_ROUTED = 4
"""Plans that get weights, the best ones with equal weights first."""
_TURNS = 20
"""Looks at most at a ratio, or at what the router can hold to."""
_GAIN = 1e-6
"""Gain, as a share of the objective, below which weights stay equal."""


def weights_bounded(problem: Problem) -> Literal["any", "equal"]:
    """Which routing weights a bound is about: with a single pipeline there are no others."""
    return "equal" if any(most_replicas(problem, one) > 1 for one in mixes(problem)) else "any"


def routed(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, the leading ones with the best weights for their pipelines; best first."""
    several = [one for one in candidates if len(one.plan.pipelines) > 1][:_ROUTED]
    found = [_routed(problem, one) if one in several else one for one in candidates]
    return sorted(found, key=lambda one: as_cost(problem, one.value))


def rescued(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of plans that miss must-haves with equal weights those that keep them with others."""
    several = [one for one in candidates if len(one.plan.pipelines) > 1][:_ROUTED]
    found = [_routed(problem, one, math.inf) for one in several]
    kept = [one for one in found if one.equal_value is not None]
    return sorted(kept, key=lambda one: as_cost(problem, one.value))


def _routed(problem: Problem, one: Candidate, before: float | None = None) -> Candidate:
    """The candidate with weights that cost less than ``before``, or than equal ones."""
    plan = shared(problem, one.plan)
    prediction = predict(problem, plan)
    value = objective_value(problem, prediction.metrics)
    if value is None or not admissible(problem, plan, prediction):
        return one
    before = as_cost(problem, one.value) if before is None else before
    if as_cost(problem, value) >= before - _GAIN * min(abs(before), 1e300):
        return one
    changes = {"plan": plan, "prediction": prediction, "value": value, "equal_value": one.value}
    return one.model_copy(update=changes)


def shared(problem: Problem, plan: Plan) -> Plan:
    """The plan with the weights with which its pipelines serve the objective best."""
    settled = decided(problem, plan)
    split = _Split(settled, plan)
    units = split.best()
    if units is None:
        return plan
    common = math.gcd(*units)
    pipelines = tuple(
        split.side(index, count).pipeline.model_copy(update={"weight": float(count // common)})
        for index, count in enumerate(units)
    )
    return plan.model_copy(update={"pipelines": pipelines})


@dataclass(frozen=True, slots=True)
class _Side:
    """A pipeline with some units of the load, and what it brings."""

    pipeline: Pipeline
    promise: Promise
    done_per_s: tuple[float, ...]
    """Requests that it completes with 1, 2, ... on it; none where it may not have so many units."""


@dataclass
class _Split:
    """The load over the pipelines of a plan whose coordinator sits somewhere."""

    problem: Problem
    plan: Plan
    sides: dict[tuple[int, int], _Side] = field(default_factory=dict)

    def __post_init__(self) -> None:
        users = self.problem.workload.concurrency
        most = max(_UNITS, len(self.plan.pipelines))
        self.units = min(most, _PARTS * len(self.plan.pipelines) if users is None else users)
        few = self.units <= _FEW
        self.most = self.units if few else _TIMES * math.ceil(self.units / len(self.plan.pipelines))
        self.home_usd = home_usd_per_hour(self.problem)

    def side(self, index: int, units: int) -> _Side:
        """A pipeline with so many units."""
        if (index, units) not in self.sides:
            self.sides[index, units] = self._side(self.plan.pipelines[index], units / self.units)
        return self.sides[index, units]

    def _seated(self, pipeline: Pipeline, share: float) -> Pipeline | None:
        """The pipeline with seats for all its users; None where more of them than alike find none.

        Where there is no memory for more seats it keeps those it has, as where standbys were chosen
        that have room for these.
        """
        users, serving = self.problem.workload.concurrency, self.problem.serving
        most = serving.max_num_seqs or self.problem.engine.max_num_seqs
        wanted = math.ceil((users or 0) * share - _ROUNDING)
        if wanted <= pipeline.max_num_seqs:
            return pipeline
        seats = min(most, wanted)
        groups = min(serving.micro_batches, seats)
        more = pipeline.model_copy(update={"max_num_seqs": seats, "micro_batches": groups})
        if self.plan.standbys or overfull(self.problem, Plan(pipelines=(more,))):
            more, seats = pipeline, pipeline.max_num_seqs
        alike = share * len(self.plan.pipelines) <= 1 + _ROUNDING
        return more if seats >= wanted or alike else None

    def _side(self, given: Pipeline, share: float) -> _Side:
        pipeline = self._seated(given, share)
        if pipeline is None:
            return _Side(given, REFUSED, ())
        one = serve(self.problem, pipeline, share)
        if not keeps(self.problem, one.felt):
            return _Side(pipeline, REFUSED, ())
        usd = self._usd_per_hour(one)
        cost = pipeline_cost(self.problem, one.felt, share, usd)
        return _Side(pipeline, Promise(cost, one.felt.requests_per_s, usd), done_per_s(one))

    def _usd_per_hour(self, one: Served) -> float:
        """What it costs beside the coordinator; nothing where money is no part of the objective."""
        if not any(term.startswith("usd") for term in self.problem.requirements.terms):
            return 0.0
        alone = Plan(pipelines=(one.pipeline,))
        return total_usd_per_hour(ledger(self.problem, alone, one.activity)) - self.home_usd

    def best(self) -> list[int] | None:
        """Units of each pipeline; None where no split keeps the latency bounds of all.

        Of an open load, as near to the best as the router can hold to.
        """
        units = self._cheapest()
        if units is None or self.problem.workload.concurrency is not None:
            return units
        equal = self.units // len(units)
        for step in range(_TURNS, 0, -1):
            near = [equal + round(step / _TURNS * (count - equal)) for count in units]
            near[near.index(max(near))] += self.units - sum(near)
            if self._held(near):
                return near
        return None

    def _held(self, units: Sequence[int]) -> bool:
        """Whether the router keeps to these units of an open load, parts of one left out.

        It sends what comes to whoever has nothing to do, whatever the weights.
        """
        kinds = [(self.side(i, count).done_per_s, float(count)) for i, count in enumerate(units)]
        if not all(done for done, _ in kinds):
            return False
        got = balanced(kinds, self.problem.workload.load)
        return all(
            count >= math.floor(share * self.units)
            for (share, _), count in zip(got, units, strict=True)
        )

    def _cheapest(self) -> list[int] | None:
        """The split that costs least, that of a price per token by Dinkelbach's method (1967)."""
        if self.problem.requirements.objective != "usd_per_million_output_tokens":
            return self._summed(None)
        price, units = 0.0, None
        for _ in range(_TURNS):
            units = self._summed(price)
            if units is None:
                return None
            sides = [self.side(i, count).promise for i, count in enumerate(units)]
            usd = self.home_usd + math.fsum(one.usd_per_hour for one in sides)
            before, price = price, usd / math.fsum(one.requests_per_s for one in sides)
            if before and price >= before * (1 - 1e-12):
                break
        return units

    def _summed(self, price: float | None) -> list[int] | None:
        """The split with the least sum, or the least worst part, of what pipelines bring.

        ``totals[n]`` is the least over the pipelines so far that share n units.
        """
        join = max if worst(self.problem) else float.__add__
        totals, picks = {0: -math.inf if worst(self.problem) else 0.0}, list[dict[int, int]]()
        for index in range(len(self.plan.pipelines)):
            rest = len(self.plan.pipelines) - index - 1
            after, pick = dict[int, float](), dict[int, int]()
            for before, total in totals.items():
                for count in range(1, min(self.most, self.units - rest - before) + 1):
                    promise = self.side(index, count).promise
                    cost = promise.cost
                    if price is not None and math.isfinite(cost):
                        cost = promise.usd_per_hour - price * promise.requests_per_s
                    value, at = join(total, cost), before + count
                    if value < after.get(at, math.inf):
                        after[at], pick[at] = value, count
            totals = after
            picks.append(pick)
        if self.units not in totals:
            return None
        units, left = list[int](), self.units
        for pick in reversed(picks):
            units.append(pick[left])
            left -= units[-1]
        return units[::-1]
