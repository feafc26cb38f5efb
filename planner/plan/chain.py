"""Chains: pipelines as shortest paths over (layers placed, way of the last stage).

Nodes may be used again and again, but where a chain remembers them: what the cheapest costs is a
lower bound (``distinct`` uses each node once). A price on each use of a class leads away from
scarce nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from planner.plan.costs import Array, Criterion, Kinds
from planner.plan.hops import Hops
from planner.plan.memory import Memory, States
from planner.plan.ways import Cut


@dataclass(frozen=True)
class Lengths:
    """Length of every part of a pipeline; a pipeline's length is their sum."""

    table: Array
    """[stop, start, kind] of a stage."""
    kinds: Kinds
    """[way] -> kind."""
    owners: Kinds
    """[way] -> class of nodes."""
    own: Array
    """[way] that each stage adds whatever its layers."""
    hops: Hops
    enter: Array
    leave: Array

    def bare(self) -> Lengths:
        """The same parts without length."""

        def free(part: Array) -> Array:
            return np.where(np.isfinite(part), 0.0, np.inf)

        hops, ends = self.hops, (free(self.enter), free(self.leave))
        hops = replace(hops, between=free(hops.between))
        return Lengths(free(self.table), self.kinds, self.owners, 0 * self.own, hops, *ends)

    @cached_property
    def lows(self) -> Kinds:
        """[stop] -> first start from which any stage reaches it."""
        able = np.isfinite(self.table.min(axis=2))
        first: Kinds = np.where(able.any(axis=1), able.argmax(axis=1), len(able))
        return first

    def stages(self, stop: int, low: int, ways: Kinds | slice | int = slice(None)) -> Array:
        """[start - low, way] of stages that end at ``stop``; of a single way [start - low]."""
        each: Array = self.table[stop, low:stop].take(self.kinds[ways], axis=1)
        each += self.own[ways]
        return each

    def of(self, cuts: Sequence[Cut]) -> float:
        """Length of one pipeline."""
        total = self.enter[cuts[0][0]] + self.leave[cuts[-1][0]]
        for way, start, stop in cuts:
            total += self.table[stop, start, self.kinds[way]] + self.own[way]
        groups = [self.hops.groups[way] for way, _, _ in cuts]
        total += sum(self.hops.between[pair] for pair in itertools.pairwise(groups))
        return float(total)


def lengths(
    criteria: Sequence[Criterion],
    weights: Sequence[float],
    longest_s: float,
    owners: Kinds,
    groups: Kinds,
) -> Lengths:
    """Weighted sum of the criteria that are sums; parts above ``longest_s`` are left out.

    The cap holds for the first criterion that is a maximum.
    """
    sums = [(c, w) for c, w in zip(criteria, weights, strict=True) if not c.longest and w > 0]
    gap = next(criterion for criterion in criteria if criterion.longest)
    cap = longest_s * (1 + 1e-12)

    def mixed(name: str) -> Array:
        total: Array = sum((w * getattr(c, name) for c, w in sums), start=np.zeros(()))
        each = getattr(gap, name)
        result: Array = np.where(np.isfinite(each) & (each <= cap), total, np.inf)
        return result

    own = np.zeros(len(gap.kinds))
    for criterion, weight in sums:
        if criterion.rent is not None:
            own = own + weight * criterion.rent
    table = np.ascontiguousarray(mixed("table").transpose(2, 1, 0))
    hops = Hops.of(mixed("hop"), groups, owners)
    return Lengths(table, gap.kinds, owners, own, hops, mixed("enter"), mixed("leave"))


@dataclass(frozen=True, slots=True)
class Chain:
    """A pipeline that may use nodes again and again."""

    length: float
    """Prices included."""
    used: Array
    """How often it uses each class."""
    cuts: tuple[Cut, ...]


def cheapest(given: Lengths, prices: Array, memory: Memory | None = None) -> Chain:
    """The chain of least length plus prices; infinite and without stages where there is none.

    Classes have prices. A chain uses them as often as it likes, but where it remembers them.
    """
    return cheapest_each(given, prices[None], memory)[0][0]


def cheapest_each(
    given: Lengths, prices: Array, memory: Memory | None = None, ends: int = 1
) -> list[list[Chain]]:
    """The cheapest chains at each row of prices [row, class]; all rows at once take less time.

    Beside the cheapest one, the cheapest that end otherwise: ``ends`` in all, cheapest first.
    """
    width, rows, classes = len(given.table), *prices.shape
    states = (memory or Memory(given.owners, np.zeros(classes, np.bool_), 0)).states
    ways, marked = states.ways, states.marked
    paid, hop = prices[:, given.owners[ways]], given.hops.leaving(marked)[:, ways]
    waiting = np.full((width, rows, len(ways)), np.inf)
    # the last column stands for where no chain comes from
    here = np.full((width, rows, len(ways) + 1), np.inf)
    arrivals = np.empty((rows, *hop.shape))
    waiting[0] = given.enter[ways]
    others = np.append(states.full, len(ways))
    others[marked] = len(ways)
    for placed in range(1, width):
        low = int(given.lows[placed])
        if low >= placed:
            continue
        stages = given.stages(placed, low, ways)[:, None, :]
        now = here[placed]
        now[:, :-1] = (waiting[low:placed] + stages).min(axis=0) + paid
        if len(marked):
            now.take(states.before, axis=1, out=arrivals, mode="clip")
            arrivals += hop
            arrivals.min(axis=1, out=waiting[placed])
        if len(marked) < len(given.owners):
            arrived = given.hops.arrive(now.take(others, axis=1)).take(ways, axis=1)
            np.minimum(waiting[placed], arrived, out=waiting[placed])
    final = here[-1][:, states.full] + given.leave
    found = []
    for row, lasts in enumerate(np.argsort(final, axis=1, kind="stable")[:, :ends]):
        chains, trace = list[Chain](), _Trace(given, states, waiting[:, row], here[:, row])
        for number, last in enumerate(lasts):
            cost, cuts = float(final[row, last]), tuple[Cut, ...]()
            if np.isfinite(cost):
                cuts = trace.cuts(int(last))
            elif number:
                break
            used = np.bincount(given.owners[[way for way, *_ in cuts]], minlength=classes)
            chains.append(Chain(cost, used.astype(float), cuts))
        found.append(chains)
    return found


@dataclass
class _Trace:
    """The way back along chains at one row of prices; those that meet share it."""

    given: Lengths
    states: States
    waiting: Array
    """[layers placed, state]"""
    here: Array
    """[layers placed, state], and infinite at the end."""
    known: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """Layers placed and state -> those before the last stage."""

    def cuts(self, last: int) -> tuple[Cut, ...]:
        """The stages of a chain that ends in a way, from its end on."""
        cuts, stop, state = list[Cut](), len(self.given.table) - 1, int(self.states.full[last])
        while stop:
            if (stop, state) not in self.known:
                self.known[stop, state] = self._before(stop, state)
            start, before = self.known[stop, state]
            cuts.append((int(self.states.ways[state]), start, stop))
            stop, state = start, before
        return tuple(cuts[::-1])

    def _before(self, stop: int, state: int) -> tuple[int, int]:
        """Where the last stage starts, and the state from which a chain comes there."""
        given, states = self.given, self.states
        low, last = int(given.lows[stop]), int(states.ways[state])
        lay = self.waiting[low:stop, state] + given.stages(stop, low, last)
        start = low + int(lay.argmin())
        if not start:
            return 0, state
        came = states.full.copy()
        came[states.marked] = states.before[:, state]
        return start, int(came[(self.here[start, came] + given.hops.entering(last)).argmin()])
