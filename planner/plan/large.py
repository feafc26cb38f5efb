"""Large: one structure (replicas, quantization, seats) on clusters beyond the exact search.

Sets, variables, objective and constraints are those of ``structure``. Pipelines are looked for as
chains that use no node twice (replicas: ``coupled``); the bound comes from chains that may use
nodes again, at a price for each use (Lagrangian relaxation of "no node twice" and of the budget),
within intervals of the longest stage, because what users feel depends on sums and on that maximum.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.activity import rents_usd_per_hour
from planner.plan.branches import every_seat
from planner.plan.chain import Lengths, cheapest, lengths
from planner.plan.champion import Champion
from planner.plan.classes import NodeClass
from planner.plan.columns import Columns, Known
from planner.plan.costs import Array, Lines, criteria, rent
from planner.plan.coupled import Coupled
from planner.plan.distinct import disjoint, distinct, rationed
from planner.plan.floor import NOISE, floor, slopes
from planner.plan.halt import Halt, never
from planner.plan.headcount import Headcount
from planner.plan.heed import TURNS, Heed
from planner.plan.hops import alike
from planner.plan.limits import Limits
from planner.plan.memory import Memory
from planner.plan.predict import load_of
from planner.plan.promise import additive, judge, straight
from planner.plan.structure import Best
from planner.plan.tables import relaxed
from planner.plan.thrift import leaning, raised
from planner.plan.ways import Cut, assembled, ways

_GAP = 1
"""Where the gap between prompts stands among the criteria."""
_GATHERED_FIRST, _GATHERED = 12, 2
"""Turns in which replicas gather pipelines to choose from, at first and in each look."""
_ITERATIONS = 60
"""Most price updates in one interval."""
_ENOUGH = 2e-3
_ENOUGH_SIDE_BY_SIDE = 0.03
"""A bound this close to the best plan is not pursued further; replicas make it dearer."""


@dataclass
class Large:
    """The chains of one structure over classes of nodes."""

    problem: Problem
    classes: tuple[NodeClass, ...]
    replicas: int
    quants: tuple[QuantScheme, ...]
    """What each stage may choose from."""
    seats: int
    between: Lines
    known: Known
    over: Halt = never

    def __post_init__(self) -> None:
        groups = min(self.problem.serving.micro_batches, self.seats)
        self.load = load_of(self.problem, self.seats, groups, 1 / self.replicas)
        self.judge = judge(self.problem, self.load, 1 / self.replicas)
        self.straight = straight(self.problem, self.load)
        self.ways = ways(self.problem, self.classes, self.quants)
        self.owners = np.array([way.owner for way in self.ways])
        self.groups = alike(self.ways, self.between.groups[self.owners])
        self.criteria = criteria(self.problem, self.classes, self.ways, self.load, self.between)
        examples = [entry.example for entry in self.classes]
        rents = np.array(rents_usd_per_hour(self.problem, examples))
        self.criteria.append(rent(self.criteria[0], rents[self.owners]))
        counts = np.array([float(len(entry.nodes)) for entry in self.classes])
        self.limits = Limits.of(self.problem, counts, rents)
        self.low = tuple(relaxed(one, self.groups, self.owners) for one in self.criteria)
        self.incumbent = math.inf
        self.champion = Champion(self.problem)
        self.coupled: Coupled | None = None
        self.intervals: list[tuple[float, float, float]] = []
        self.solved, self.gained, self.brief = 0, True, False
        self.built = list[tuple[Cut, ...]]()

    @property
    def found(self) -> float:
        """Cost of the best plan so far."""
        return self.champion.cost

    @property
    def holds(self) -> bool:
        """Whether any chain of nodes can hold the model with these seats."""
        return math.isfinite(self.low[0])

    @property
    def settled(self) -> bool:
        """Whether another look would find nothing new."""
        if self.replicas == 1:
            return not self.gained
        return self.coupled is None or self.coupled.settled

    @cached_property
    def thrift(self) -> Array:
        """The least that a pipeline takes of what must-haves limit."""
        bare = self._lengths([0.0] * len(self.criteria), math.inf)
        return np.array([cheapest(bare, takes).length for takes in self.limits.takes])

    @property
    def enough(self) -> float:
        """The gap at which this structure is left alone."""
        return _ENOUGH if self.replicas == 1 else _ENOUGH_SIDE_BY_SIDE

    @property
    def quick_bound(self) -> float:
        """A bound on the whole structure that costs nothing."""
        if self.limits.short(self.replicas * self.thrift):
            return math.inf
        return self._cost(self.low) * (self.replicas if self._additive else 1)

    def best(self, incumbent: float, effort: int) -> Best:
        """A good plan, and a bound.

        ``effort`` is how many relaxations are solved for one pipeline, and how many turns of column
        generation replicas get. Another call goes on where this one ended.
        """
        self.incumbent = incumbent
        weights = slopes(self._cost, self.low)
        if self.replicas == 1:
            if not self.intervals:
                self._build(self._lengths(weights, math.inf), self.limits.none())
            return self._answer(self._bound(weights, effort))
        return self._answer(max(self.quick_bound, self._side_by_side(weights, effort)))

    def bound(self) -> float:
        """A bound on the whole structure, no plan being looked for."""
        bound = self.quick_bound
        if not self._additive and math.isfinite(bound):
            bound = max(bound, self._started(slopes(self._cost, self.low)).least())
        return self._lossy(bound)

    def first(self, *, brief: bool = False) -> Best:
        """A plan and a bound without much ado; ``brief``: no plan that nothing hangs on."""
        self.brief, ladder = brief, self.problem.workload.concurrency is not None
        if math.isfinite(self.quick_bound) and (ladder or not brief):
            weights = slopes(self._cost, self.low)
            self._build(self._lengths(weights, math.inf), self.limits.none())
            if not (brief or math.isfinite(self.found)):
                self._heeding(weights)
        return self._answer(self.quick_bound)

    def _heeding(self, weights: list[float]) -> None:
        """Looks for a plan by must-haves as well as by the objective."""
        heed = Heed(self.problem, self.load, 1 / self.replicas, self.low, self.limits)
        for _ in range(0 if heed.hopeless else TURNS):
            mixed = heed.lengths(weights, self.low)
            self._build(self._lengths(mixed, math.inf), heed.prices())
            if math.isfinite(self.found) or self.over():
                break
            vectors = [[one.of(cuts) for one in self.criteria] for cuts in self.built]
            if not heed.learn(vectors):
                break

    def _answer(self, bound: float) -> Best:
        bound = self._lossy(bound)
        champion, found = self.champion, self.found
        return Best(champion.plan, champion.prediction, found, min(bound, found), self.solved)

    def _lossy(self, bound: float) -> float:
        """A bound without losses made one with them."""
        count = Headcount(self.problem, self.quants, self.replicas, self.seats)
        return count.raised(bound, self.judge(self.low[:-1], self.low[-1]))

    def _side_by_side(self, weights: list[float], turns: int) -> float:
        """A bound over replicas that compete for nodes; looks for a plan first."""
        known, first = self.known, self.coupled is None
        coupled = self._started(weights)
        before = coupled.solved
        shared = self._shared
        for cuts in shared:
            coupled.seed(cuts)
        if first:
            coupled.gather(_GATHERED_FIRST, self._width)
        if self._additive:
            aim = min(self.incumbent, self.found)
            bound = coupled.tighten(turns, aim - self.enough * abs(aim))
        else:
            bound = coupled.least()
        if near := coupled.near or not self._additive:
            coupled.gather(_GATHERED, self._width)
            coupled.complete(self._width)
        wanted = (near or first) and not self.over()
        if wanted and (picked := coupled.columns.chosen()):
            self._offer(picked)
        shared |= {one.cuts: None for one in coupled.columns.known.values()}
        known.prices = coupled.prices
        self.solved += coupled.solved - before
        return bound

    def _started(self, weights: list[float]) -> Coupled:
        """Replicas that compete for nodes, as far as they were looked at."""
        if self.coupled is None:
            prices = self.limits.none() if self.known.prices is None else self.known.prices
            served = self.criteria, self.low, weights, self._cost, self.straight
            columns = Columns(self.limits, self.owners, self.replicas)
            memory = Memory(self.owners, self.limits.counts == 1, self._remembered)
            priced = columns, self.groups, prices, memory, self.thrift
            self.coupled = Coupled(*served, *priced, self.over)
        return self.coupled

    @property
    def _additive(self) -> bool:
        """Whether costs of pipelines add up; any other is at least the least of theirs."""
        return additive(self.problem)

    def _cost(self, vector: Sequence[float]) -> float:
        """Cost of a pipeline with these criteria, the last of which is its rent."""
        return self.judge(vector[:-1], vector[-1]).cost

    def _bound(self, weights: list[float], effort: int) -> float:
        """A bound over all pipelines: intervals of the longest stage, the worst one halved."""
        if not math.isfinite(self._cost(self.low)):
            return math.inf
        intervals, most = self.intervals, self.solved + effort
        if not intervals:
            top = float(self.criteria[_GAP].values[-1])
            intervals.append((self._interval(weights, self.low[_GAP], top), self.low[_GAP], top))
        while weights[_GAP] > 0 and self.solved < most and not self.over():
            best = min(self.found, self.incumbent)
            bound, low, high = intervals[0]
            if bound >= best - _ENOUGH * abs(best) or high <= low * 1.002:
                break
            heapq.heappop(intervals)
            middle = math.sqrt(low * high)
            for one in ((low, middle), (middle, high)):
                heapq.heappush(intervals, (self._interval(weights, *one), *one))
        self.gained = self.solved > most - effort
        return max(self.quick_bound, intervals[0][0])

    def _interval(self, weights: list[float], low_s: float, high_s: float) -> float:
        """A bound on plans whose longest stage lies in an interval; looks for plans as well."""
        given = self._lengths(weights, high_s)
        limits, prices = self.limits, self._leaning(given, self.limits.none())
        if prices is None:
            return math.inf
        lower = (*self.low[:_GAP], max(low_s, self.low[_GAP]), *self.low[_GAP + 1 :])
        sums = [0.0 if c.longest else w for c, w in zip(self.criteria, weights, strict=True)]
        one = partial(floor, self._cost, lower, sums, straight=self.straight)
        chain = cheapest(given, limits.each(prices))
        self.solved += 1
        if not math.isfinite(chain.length):
            return math.inf
        dual = chain.length - float(prices @ limits.all)
        bound = one(dual)
        reached = self._build(given, prices)
        if bound >= self.incumbent:
            return bound
        memory, theta = Memory(self.owners, limits.counts == 1, self._remembered), 1.0
        for turn in range(_ITERATIONS):
            best = min(self.found, self.incumbent)
            if bound >= best - _ENOUGH * abs(best) or self.over():
                break
            if limits.kept(chain.used):
                self._offer([chain.cuts])
                reached = min(reached, given.of(chain.cuts))
                if not prices.any():
                    break
            if not memory.learn(chain.cuts):
                if (leant := self._leaning(given, prices, memory)) is None:
                    return math.inf
                aim = max(reached, dual * 1.01) if math.isfinite(reached) else dual * 1.05
                gain = theta * max(0.0, aim - dual)
                if (moved := raised(limits, chain.used, prices, leant, gain)) is None:
                    break
                prices = moved
            chain = cheapest(given, limits.each(prices), memory)
            self.solved += 1
            if not math.isfinite(chain.length):
                return math.inf
            value = chain.length - float(prices @ limits.all)
            theta = theta if value > dual * (1 + 1e-4) else theta * 0.95
            if value > dual:
                dual = value
                bound = max(bound, one(dual))
            if turn % 12 == 11:
                reached = min(reached, self._build(given, prices))
        self._build(given, prices)
        return bound

    def _leaning(self, given: Lengths, prices: Array, memory: Memory | None = None) -> Array | None:
        """Prices at which those of must-haves make chains cost most; None where none keeps them."""
        leant, solved = leaning(given, self.limits, prices, memory)
        self.solved += solved
        return leant

    def _build(self, given: Lengths, prices: Array) -> float:
        """Disjoint pipelines one after another; keeps the plan if it is the best so far.

        Returns the length of the first one.
        """
        paid, limits = self.limits.each(prices), self.limits
        width = 1 if len(self.classes) > 400 or self.replicas > 8 else self._width
        if self.replicas == 1:
            rations = rationed(given, limits.takes, limits.most)
            found = distinct(given, paid, limits.counts, width, rations, self.over)
            self.built = found[:1]
            for cuts in filter(self._may_win, found):
                self._offer([cuts])
            return min(map(given.of, found), default=math.inf)
        taken = disjoint(given, paid, limits, self.replicas, self.thrift, width, self.over)
        self._shared.update(dict.fromkeys(taken))
        self.built = taken if len(taken) == self.replicas else []
        if not self.built:
            return math.inf
        self._offer(taken)
        return given.of(taken[0])

    @property
    def _shared(self) -> dict[tuple[Cut, ...], None]:
        """Pipelines that structures of the same ways know."""
        return self.known.pipelines.setdefault(tuple(quant.id for quant in self.quants), {})

    def _lengths(self, weights: list[float], longest_s: float) -> Lengths:
        return lengths(self.criteria, weights, longest_s, self.owners, self.groups)

    @property
    def _width(self) -> int:
        """Labels that are kept at each point."""
        many, few = (16, 120) if self.replicas == 1 else (8, 50)
        return 1 if self.brief else many if len(self.classes) <= few else 4

    @property
    def _remembered(self) -> int:
        """Other nodes that each node remembers at most; each doubles the work."""
        return 7 if len(self.classes) <= 150 else 5

    def _may_win(self, cuts: tuple[Cut, ...]) -> bool:
        """Whether the criteria of the only pipeline, which it has at least, leave it a chance."""
        least = self._cost([criterion.of(cuts) for criterion in self.criteria])
        return least < self.found + NOISE * abs(self.found)

    def _offer(self, pipelines: list[tuple[Cut, ...]]) -> None:
        plan = assembled(self.classes, self.ways, pipelines, self.load)
        for one in every_seat(self.problem, plan)[: 1 if self.brief else None]:
            self.champion.meet(one)
