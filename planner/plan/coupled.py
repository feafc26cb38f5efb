"""Coupled: pipelines side by side that compete for nodes, by column generation with a bound.

Prices of nodes come from ``columns``; the pipeline that costs least at these prices is looked for
among chains that may use nodes again, so what it costs bounds all. The sum of that over all
replicas, less what the limits are worth (nodes that exist, budget, how many nodes), bounds every
plan (Lagrange). Costs need not be linear: a pipeline's length lies in some interval, its longest
stage in another, and in each the cost and the prices are bounded apart.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

from planner.plan.chain import cheapest, cheapest_each, lengths
from planner.plan.columns import Columns
from planner.plan.costs import Array, Criterion, Kinds
from planner.plan.distinct import distinct, rationed
from planner.plan.envelope import Corner, Envelope
from planner.plan.floor import Cost, Floor
from planner.plan.halt import Halt, never
from planner.plan.level import Level
from planner.plan.memory import Memory
from planner.plan.ways import Cut

_GAP = 1
"""Where the gap between prompts stands among the criteria."""
_FINE = 1.006
"""Intervals of length this narrow are not halved."""
_HALVINGS = 8
"""Times an interval of length is halved at most."""
_TRIED = (1.1, 1.6)
"""Lengths, in shortest ones, at whose rates pipelines are looked for."""
_ALIKE = 1.4
"""Rates that lie closer together are not both tried."""
_GRID = 6
"""Lengths, each so much longer, whose rates are looked at together at first."""
_CLOSE = 1e-3
"""Bounds that much apart are not told apart."""
_MET = 1e-2
"""Bounds that close to the linear program are not pursued."""
_NEAR = 0.2
"""A bound that close to the linear program is worth remembering nodes, and plans a search."""
_IDLE = 3
"""Turns without better pipelines, for each interval of the longest stage, that are enough."""
_COMPLETED = 8
"""Pipelines that are looked for beside those that the linear program takes a share of."""
_ENDS = 6
"""Chains that are kept of those found at one rate."""
_ROUGH = 1e-2
"""Chains that are looked for as roughly as that are as good as the cheapest."""
_LEVELS = 4
"""Intervals of the longest stage at most."""
_CLOSER = 40
"""Looks at most at where cost and prices may sum up to least."""


@dataclass
class Coupled:
    """Replicas of one structure."""

    criteria: list[Criterion]
    low: tuple[float, ...]
    weights: list[float]
    """How much the cost grows with each criterion."""
    cost: Cost
    straight: bool
    """Whether the cost is quasi-concave."""
    columns: Columns
    groups: Kinds
    """[way] -> group of alike lines."""
    prices: Array
    """Of each limit; those of the best bound once there is one."""
    memory: Memory
    """What chains remember of the nodes they used."""
    thrift: Array
    """The least that a pipeline takes of what must-haves limit."""
    over: Halt = never
    bound: float = -math.inf
    """No plan of this structure costs less."""
    mixed: bool = True
    """Whether prices are mixed with the best so far, against swings; not where that stood still."""
    rough: float = 1.0
    """How roughly chains are looked for, where what they cost is not yet known to a tenth."""
    near: bool = False
    """Whether the bound has come near the linear program."""
    settled: bool = False
    """Whether further turns would change nothing."""
    solved: int = 0
    levels: list[Level] = field(default_factory=list)
    costs: dict[tuple[Cut, ...], float] = field(default_factory=dict)
    """Of the pipelines that were looked at, whether they joined the columns or not."""

    def __post_init__(self) -> None:
        gap = self.criteria[_GAP]
        every = gap.values
        every = every[every > self.low[_GAP]]
        self.gaps_s = np.unique(np.append(every, self.low[_GAP]))
        self._add_level(self.low[_GAP], float(self.gaps_s[-1]))
        if self.levels:
            level = self.levels[0]
            self.bare = level.given.bare()
            lows = [level.shortest * factor for factor in _TRIED]
            rates = [self._rate(level, low, low * _ALIKE) for low in lows]
            self.rates = [rate for rate in rates if rate]

    def seed(self, cuts: tuple[Cut, ...]) -> bool:
        """Whether a pipeline is new and admissible; it joins the columns."""
        if cuts not in self.costs:
            self.costs[cuts] = self.cost(self._vector(cuts))
        cost = self.costs[cuts]
        if not self.columns.wants(cuts, cost) or self.memory.forbids(cuts):
            return False
        return self.columns.add(cuts, cost)

    def tighten(self, turns: int, aim: float) -> float:
        """The bound on the sum of all pipelines' costs after some more turns; columns gather.

        Ends early where the bound passes ``aim`` or has met the linear program.
        """
        limits, replicas = self.columns.limits, self.columns.replicas
        for _ in range(turns if self.levels else 0):
            if self.bound >= aim or self.over():
                break
            told = self.columns.priced()
            value, prices = told.value, told.prices
            if self.mixed:
                prices = (prices + self.prices) / 2
            away = value - self.bound if math.isfinite(self.bound) else 0.0
            near = 0.1 * self.rough * away / replicas
            least, chains, worst = self._reduced(limits.each(prices), near)
            dual = replicas * least - float(prices @ limits.all)
            self.mixed = dual > self.bound + _CLOSE * abs(dual)
            if dual > self.bound:
                self.bound, self.prices = dual, prices
            grown = [self.seed(cuts) for cuts in chains]
            self.rough = 1.0 if any(grown) else 0.1 * self.rough
            self.near = value - self.bound < _NEAR * abs(value)
            learnt = [self.memory.learn(cuts) for cuts in told.picked] if self.near else []
            self.columns.drop(self.memory.forbids)
            split = self._split(worst)
            met = value - self.bound < _MET * abs(value)
            stuck = self.rough < _ROUGH and not (any(grown) or self.mixed)
            if not any(learnt) and not split and (met or stuck):
                self.settled = True
                break
        return self.bound if self.levels else math.inf

    def least(self) -> float:
        """The least that one pipeline costs, whatever the others take."""
        if not self.levels:
            return math.inf
        least, _, _ = self._reduced(np.zeros(len(self.columns.limits.counts)), 0.0)
        return least

    def gather(self, turns: int, width: int) -> None:
        """Adds pipelines that use no node twice, at the prices of those that are known.

        Levels take turns. Prices of two turns are mixed in every other one: they swing. Ends early
        where several turns bring nothing.
        """
        limits = self.columns.limits
        before, least, since = limits.none(), math.inf, 0
        for turn in range(turns if self.levels else 0):
            told = self.columns.priced(real=True)
            since = since if told.value >= least - _CLOSE * abs(least) else turn
            least, prices = min(least, told.value), told.prices
            if turn - since >= _IDLE * len(self.levels) or self.over():
                break
            prices = (prices + before) / 2 if turn % 2 else prices
            before, level = prices, self.levels[turn % len(self.levels)]
            for rate in self.rates:
                for cuts in self._distinct(level, limits.each(prices) / rate, width):
                    self.seed(cuts)

    def complete(self, width: int) -> None:
        """Adds pipelines that go well beside those of which the linear program takes a share."""
        limits, replicas = self.columns.limits, self.columns.replicas
        paid = limits.each(self.prices)
        last = limits.each(limits.together(self.prices))
        told, rate = self.columns.priced(), max(self.rates, default=1.0)
        for cuts in told.picked[: max(1, _COMPLETED // (replicas - 1))]:
            used, gap_s = self.columns.used(cuts), self._vector(cuts)[_GAP]
            level = min(self.levels, key=lambda one: (one.high_s < gap_s, one.high_s))
            for missing in range(replicas - 1, 0, -1):
                prices = (paid if missing > 1 else last) / rate
                found = self._distinct(level, prices, width, used, missing - 1)
                for one in found:
                    self.seed(one)
                if not found:
                    break
                used = used + self.columns.used(found[0])

    def _distinct(
        self,
        level: Level,
        prices: Array,
        width: int,
        used: Array | None = None,
        others: int | None = None,
    ) -> list[tuple[Cut, ...]]:
        """Pipelines of a level that use no node twice, and leave enough for others beside them.

        The ``used`` nodes are taken already; all replicas but one are ``others`` unless told.
        """
        limits = self.columns.limits
        used = np.zeros(len(limits.counts)) if used is None else used
        others = self.columns.replicas - 1 if others is None else others
        left, room = limits.counts - used, limits.most - limits.takes @ used
        if left.min() < 0:
            return []
        rations = rationed(level.given, limits.takes, room - others * self.thrift)
        return distinct(level.given, prices, left, width, rations, self.over)

    def _split(self, level: Level) -> bool:
        """Whether the interval of a level's longest stage was wide, and is now halved."""
        low_s, high_s = level.low[_GAP], level.high_s
        if len(self.levels) >= _LEVELS:
            return False
        raised = (*level.low[:_GAP], high_s, *level.low[_GAP + 1 :])
        bottom, top = self.cost(level.low), self.cost(raised)
        if top - bottom < 5 * _CLOSE * abs(bottom):
            return False
        self.levels.remove(level)
        middle = int(np.searchsorted(self.gaps_s, (low_s + high_s) / 2, side="right"))
        self._add_level(low_s, float(self.gaps_s[middle - 1]))
        self._add_level(float(self.gaps_s[middle]), high_s)
        return True

    def _add_level(self, low_s: float, high_s: float) -> None:
        owners = self.columns.owners
        given = lengths(self.criteria, self.weights, high_s, owners, self.groups)
        shortest = cheapest(given, np.zeros(len(self.columns.limits.counts))).length
        self.solved += 1
        low = (*self.low[:_GAP], low_s, *self.low[_GAP + 1 :])
        if math.isfinite(shortest) and math.isfinite(self.cost(low)):
            self.levels.append(Level(given, low, high_s, shortest))

    def _reduced(self, prices: Array, near: float) -> tuple[float, list[tuple[Cut, ...]], Level]:
        """The least that cost and prices of a chain sum up to, chains that come near it, and where.

        A chain of a level costs at least what its length does, and pays at least what the envelope
        says of that length. Where that is least is looked at closer, until it is within ``near``.
        """
        cheap = cheapest(self.bare, prices, self.memory)
        found, reached = [cheap.cuts] if cheap.cuts else [], math.inf
        curves = [Envelope(level.shortest, cheap.length) for level in self.levels]
        empty, looks = set[int](), 0

        def look(index: int, rates: list[float]) -> None:
            """Chains of a level at some rates."""
            nonlocal reached
            self.solved += len(rates)
            level = self.levels[index]
            rows = np.stack([prices / rate for rate in rates])
            each = cheapest_each(level.given, rows, self.memory, _ENDS)
            for rate, (chain, *others) in zip(rates, each, strict=True):
                if not chain.cuts:  # none that remembers its nodes is so quick at every stage
                    empty.add(index)
                    return
                paid = float(prices @ chain.used)
                curves[index].add(rate, chain.length - paid / rate, paid)
                found.extend(one.cuts for one in (chain, *others))
                reached = min(reached, self.cost(self._vector(chain.cuts)) + paid)

        while True:
            enough = math.inf
            if math.isfinite(reached):
                enough = reached - max(near, _CLOSE * abs(reached))
            worst, index, rates = math.inf, 0, list[float]()
            for number, level in enumerate(self.levels):
                if number in empty:
                    continue
                value, asked = self._lowest(level, curves[number], enough)
                if value < worst:
                    worst, index, rates = value, number, asked
            if worst >= enough or not rates or looks >= _CLOSER or self.over():
                return min(worst, reached), found, self.levels[index]
            looks += 1
            look(index, rates)

    def _lowest(self, level: Level, curve: Envelope, enough: float) -> tuple[float, list[float]]:
        """The least cost and prices along an envelope, and rates that may raise what is too low."""
        corners = curve.corners()
        if not curve.touches:
            return self._least(level, level.shortest, math.inf) + curve.bare, self._grid(level)
        costs = [self._least(level, corner.length, enough - corner.paid) for corner in corners]
        ends = [cost + corner.paid for cost, corner in zip(costs, corners, strict=True)]
        asked = [
            corner.rate
            for end, corner in zip(ends, corners, strict=True)
            if corner.rate and end < enough
        ]
        lowest = min(ends)
        if self.straight:
            return lowest, asked
        for one, two in itertools.pairwise(corners):
            value = self._along(level, one, two, enough, _HALVINGS)
            if value < enough:
                asked += [corner.rate for corner in (one, two) if corner.rate]
            lowest = min(lowest, value)
        return lowest, sorted(set(asked))

    def _along(self, level: Level, one: Corner, two: Corner, enough: float, halvings: int) -> float:
        """A bound on cost and prices between two corners, costs growing as they like."""
        value = self._least(level, one.length, enough - two.paid) + two.paid
        narrow = two.length <= one.length * _FINE
        if value >= enough or not halvings or narrow or self.over():
            return value
        middle = Corner((one.length + two.length) / 2, (one.paid + two.paid) / 2, None)
        left = self._along(level, one, middle, enough, halvings - 1)
        return min(left, self._along(level, middle, two, enough, halvings - 1))

    def _grid(self, level: Level) -> list[float]:
        """The rates at which longer and longer chains of a level cost more."""
        rates = list[float]()
        for step in range(0, _GRID, 1 + self.memory.deepest // 3):
            low = level.shortest * _ALIKE**step
            one = self._rate(level, low, low * _ALIKE)
            if one and not any(1 / _ALIKE < one / other < _ALIKE for other in rates):
                rates.append(one)
        return rates

    def _rate(self, level: Level, low: float, high: float) -> float:
        """How fast the least cost grows over an interval of length; 0 where it does not."""
        if high <= low:
            return 0.0
        before, after = self._least(level, low, math.inf), self._least(level, high, math.inf)
        if math.isinf(after):
            return 0.0
        return max(0.0, (after - before) / (high - low))

    def _least(self, level: Level, total: float, enough: float) -> float:
        """The least cost of a pipeline at least that long, or a bound on it beyond ``enough``."""
        if total not in level.least:
            sums = [
                0.0 if criterion.longest else weight
                for criterion, weight in zip(self.criteria, self.weights, strict=True)
            ]
            level.least[total] = Floor(self.cost, level.low, sums, total, self.straight)
        return level.least[total].at_least(enough)

    def _vector(self, cuts: tuple[Cut, ...]) -> list[float]:
        """The criteria of a pipeline."""
        return [criterion.of(cuts) for criterion in self.criteria]
