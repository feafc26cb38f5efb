"""Chains: pipelines as shortest paths over (layers placed, way of the last stage).

``cheapest`` lets nodes be used again and again: a lower bound. ``distinct`` uses each node once: it
keeps the few best labels of every point with the nodes they used, so it finds good pipelines, not
always the best. A price on each use of a class leads both away from scarce nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from planner.plan.costs import Array, Criterion, Kinds
from planner.plan.halt import Halt, never
from planner.plan.hops import Hops
from planner.plan.memory import Memory, States
from planner.plan.ways import Cut

_NONE = np.iinfo(np.int32).max
_WIDER = 6
"""Times the labels kept at a point that are looked through for ones that may go on there."""


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
        chains = []
        for number, last in enumerate(lasts):
            cost, cuts = float(final[row, last]), tuple[Cut, ...]()
            if np.isfinite(cost):
                cuts = _traced(given, states, waiting[:, row], here[:, row], int(last))
            elif number:
                break
            used = np.bincount(given.owners[[way for way, *_ in cuts]], minlength=classes)
            chains.append(Chain(cost, used.astype(float), cuts))
        found.append(chains)
    return found


def _traced(
    given: Lengths, states: States, waiting: Array, here: Array, last: int
) -> tuple[Cut, ...]:
    """The stages of a chain, from its end on."""
    cuts, stop, state = list[Cut](), len(given.table) - 1, int(states.full[last])
    while True:
        low, last = int(given.lows[stop]), int(states.ways[state])
        lay = waiting[low:stop, state] + given.stages(stop, low, last)
        start = low + int(lay.argmin())
        cuts.append((last, start, stop))
        if not start:
            return tuple(cuts[::-1])
        came = states.full.copy()
        came[states.marked] = states.before[:, state]
        stop = start
        state = int(came[(here[start, came] + given.hops.entering(last)).argmin()])


def distinct(
    given: Lengths,
    prices: Array,
    counts: Array,
    width: int,
    most: int | None = None,
    over: Halt = never,
) -> list[tuple[Cut, ...]]:
    """Short pipelines that use no node twice and at most ``most`` nodes, shortest first.

    ``width`` labels are kept at each point; those that arrive are looked for among the
    ``_WIDER * width`` cheapest of each group of lines. None where the search is ``over``.
    """
    layers, ways, classes = len(given.table) - 1, len(given.owners), len(prices)
    owners, hops = given.owners, given.hops
    limits, paid = counts.astype(np.uint8)[owners][:, None], prices[owners]
    # labels that wait at a way for their next stage: [layers placed, way, label]
    cost = np.full((layers + 1, ways, width), np.inf)
    used = np.zeros((layers + 1, ways, width, classes), dtype=np.uint8)
    stages = np.zeros((layers + 1, ways, width), dtype=np.int32)
    came = np.full((layers + 1, ways, width), _NONE)
    made = np.full((layers + 1, ways, width), _NONE)
    cost[0, :, 0] = np.where(counts[owners] > 0, given.enter, np.inf)
    rows, every = np.arange(ways)[:, None], np.arange(width)[None, :]
    here, far = np.full((ways, width), np.inf), min(ways * width, _WIDER * width)
    into_group = np.ascontiguousarray(hops.between.T[:, hops.groups])
    for stop in range(1, layers + 1):
        if over():
            return []
        low = int(given.lows[stop])
        if low >= stop:
            here[:] = np.inf
            continue
        span = cost[low:stop] + given.stages(stop, low)[:, :, None]
        lay = span.transpose(1, 0, 2).reshape(ways, -1)
        pick = _least(lay, width)
        here = lay[rows, pick] + paid[:, None]
        start, label = np.divmod(pick, width)
        start += low
        made[stop] = start * width + label
        if stop == layers:
            break
        sets = used[start, rows, label]
        sets[rows, every, owners[:, None]] += 1
        length = stages[start, rows, label] + 1
        if most is not None:
            here[length >= most] = np.inf
        taken = sets.reshape(-1, classes)
        via = (into_group[:, :, None] + here).reshape(len(into_group), -1)
        wanted = _least(via, far)[hops.groups]
        barred = taken[wanted, owners[:, None]] >= limits
        choice = np.argsort(barred, axis=1, kind="stable")[:, :width]
        way = wanted[rows, choice]
        cost[stop] = np.where(barred[rows, choice], np.inf, via[hops.groups[:, None], way])
        used[stop], stages[stop], came[stop] = taken[way], length.reshape(-1)[way], way
    ends = (here + given.leave[:, None]).reshape(-1)
    found = []
    for end in np.argsort(ends, kind="stable")[:width]:
        if np.isfinite(ends[end]):
            found.append(_cuts(int(end), made, came, layers, width))
    return found


def _least(values: Array, width: int) -> Kinds:
    """Columns of the ``width`` least values of each row, in their order; none is negative.

    Numbers of columns take the place of the last bits of values, which as whole numbers have the
    same order: these are sorted faster, and ties go by column on every machine.
    """
    columns = values.shape[1]
    if width == 1:
        one: Kinds = values.argmin(axis=1)[:, None]
        return one
    last = (1 << (columns - 1).bit_length()) - 1
    keys = values.view(np.int64) & ~last
    keys |= np.arange(columns)
    if columns > width:
        keys.partition(width - 1, axis=1)
    least: Kinds = np.sort(keys[:, :width], axis=1) & last
    return least


def _cuts(end: int, made: Kinds, came: Kinds, stop: int, width: int) -> tuple[Cut, ...]:
    """The pipeline that ends in a label."""
    cuts: list[Cut] = []
    last, label = divmod(end, width)
    while True:
        start, waiting = divmod(int(made[stop, last, label]), width)
        cuts.append((last, start, stop))
        if start == 0:
            return tuple(cuts[::-1])
        before = int(came[start, last, waiting])
        stop = start
        last, label = divmod(before, width)
