"""Chains: pipelines as shortest paths over (layers placed, way of the last stage).

``cheapest`` lets nodes be used again and again: a lower bound. ``distinct`` uses each node once: it
keeps the few best labels of every point with the nodes they used, so it finds good pipelines, not
always the best. A price on each use of a class leads both away from scarce nodes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.plan.costs import Array, Criterion, Kinds
from planner.plan.halt import Halt, never
from planner.plan.hops import Hops
from planner.plan.memory import Memory, States
from planner.plan.ways import Cut

Counts = NDArray[np.uint8]

_SLACK = 1e-9
"""Rounding that breaks no ration, as a share of it."""
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


@dataclass(frozen=True)
class Ration:
    """What one pipeline may take of something that nodes take."""

    takes: Array
    """Of each class a node."""
    most: float
    after: Array
    """[layers placed] the least that the stages behind take, whatever their order."""

    @classmethod
    def of(cls, given: Lengths, takes: Array, most: float) -> Ration:
        """So much of it, whatever is left of that at the end."""
        layers, able = len(given.table) - 1, np.isfinite(given.table)
        each = np.full(given.table.shape[2], np.inf)
        np.minimum.at(each, given.kinds, takes[given.owners])
        after = np.zeros(layers + 1)
        for start in reversed(range(layers)):
            stages = np.where(able[start + 1 :, start], each, np.inf).min(axis=1)
            after[start] = (stages + after[start + 1 :]).min()
        return cls(takes, most + _SLACK * abs(most), after)

    def barred(self, taken: Counts, stop: int) -> NDArray[np.bool_]:
        """[label] whether nodes [label, class] over so many layers leave too little."""
        barred: NDArray[np.bool_] = taken @ self.takes + self.after[stop] > self.most
        return barred


def rationed(given: Lengths, takes: Array, most: Array) -> list[Ration]:
    """The same of several things: what nodes take [thing, class], and how much one may."""
    return [Ration.of(given, *one) for one in zip(takes, most, strict=True)]


def distinct(
    given: Lengths,
    prices: Array,
    counts: Array,
    width: int,
    rations: Sequence[Ration] = (),
    over: Halt = never,
) -> list[tuple[Cut, ...]]:
    """Short pipelines that use no node twice and no more than their rations, shortest first.

    ``width`` labels are kept at each point; where ways have lines in common, those that arrive are
    looked for among the ``_WIDER * width`` cheapest of each group of lines. None where the search
    is ``over``.
    """
    layers, ways, classes = len(given.table) - 1, len(given.owners), len(prices)
    owners = given.owners
    paid = prices[owners][:, None]
    # labels that wait at a way for their next stage: [way, layers placed, label]
    shape = ways, layers + 1, width
    cost, came, made = np.full(shape, np.inf), np.full(shape, _NONE), np.full(shape, _NONE)
    used = np.zeros((*shape, classes), dtype=np.uint8)
    cost[:, 0, 0] = np.where(counts[owners] > 0, given.enter, np.inf)
    rows, labels = np.arange(ways)[:, None], np.arange(ways * width)
    firsts, whose = rows * (layers + 1) * width, owners.repeat(width)
    here, arrivals = np.full((ways, width), np.inf), _Arrivals.of(given, counts, width)
    for stop in range(1, layers + 1):
        if over():
            return []
        low = int(given.lows[stop])
        if low >= stop:
            here[:] = np.inf
            continue
        lay = (cost[:, low:stop] + given.stages(stop, low).T[:, :, None]).reshape(ways, -1)
        pick = _least(lay, width)
        here = lay[rows, pick] + paid
        made[:, stop] = pick + low * width
        if stop == layers and not rations:
            break
        before = (firsts + made[:, stop]).reshape(-1)
        taken = used.reshape(-1, classes).take(before, axis=0)
        taken[labels, whose] += 1
        for ration in rations:
            here[ration.barred(taken, stop).reshape(here.shape)] = np.inf
        if stop == layers:
            break
        cost[:, stop], way = arrivals.best(here, taken)
        used[:, stop], came[:, stop] = taken.take(way, axis=0), way
    ends = (here + given.leave[:, None]).reshape(-1)
    found = []
    for end in np.argsort(ends, kind="stable")[:width]:
        if np.isfinite(ends[end]):
            found.append(_cuts(int(end), made, came, layers, width))
    return found


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Labels on their way to a next stage."""

    between: Array
    """[group, label] of the hop into a group of alike lines."""
    groups: Kinds
    """[way] -> group."""
    owners: Kinds
    """[way] -> class of nodes."""
    limits: Counts
    """[way, 1]: nodes there are of its class."""
    width: int

    @classmethod
    def of(cls, given: Lengths, counts: Array, width: int) -> _Arrivals:
        """So many labels of each way."""
        hops, groups = given.hops, given.hops.groups
        between = hops.between.T[:, groups].repeat(width, axis=1)
        if len(between) == len(groups):
            between, groups = between[groups], np.arange(len(groups))
        limits = counts.astype(np.uint8)[given.owners][:, None]
        return cls(between, groups, given.owners, limits, width)

    def best(self, here: Array, taken: Counts) -> tuple[Array, Kinds]:
        """[way, label]: the least costs of coming to each way, and the labels they come from.

        ``taken`` are the nodes of each class that labels used, [label, class].
        """
        via, width = self.between + here.reshape(-1), self.width
        if len(via) == len(self.groups):
            np.copyto(via, np.inf, where=taken.T.take(self.owners, axis=0) >= self.limits)
            label = _least(via, width)
            return via[np.arange(len(via))[:, None], label], label
        wanted = _least(via, min(via.shape[1], _WIDER * width))[self.groups]
        barred = taken[wanted, self.owners[:, None]] >= self.limits
        choice = np.argsort(barred, axis=1, kind="stable")[:, :width]
        label = np.take_along_axis(wanted, choice, axis=1)
        cost = via[self.groups[:, None], label]
        cost[np.take_along_axis(barred, choice, axis=1)] = np.inf
        return cost, label


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
        start, waiting = divmod(int(made[last, stop, label]), width)
        cuts.append((last, start, stop))
        if start == 0:
            return tuple(cuts[::-1])
        before = int(came[last, start, waiting])
        stop = start
        last, label = divmod(before, width)
