"""Distinct: good pipelines that use each node once.

A few of the best labels of every point (layers placed, way of the last stage) are kept with the
nodes they used, so what is found is good, not always the best. Prices lead away from scarce nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.plan.chain import Lengths
from planner.plan.costs import Array, Kinds
from planner.plan.halt import Halt, never
from planner.plan.limits import Limits
from planner.plan.ways import Cut

Counts = NDArray[np.uint8]

_SLACK = 1e-9
"""Rounding that breaks no ration, as a share of it."""
_NONE = np.iinfo(np.int32).max
_WIDER = 6
"""Times the labels kept at a point that are looked through for ones that may go on there."""


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


def disjoint(
    given: Lengths,
    prices: Array,
    limits: Limits,
    several: int,
    thrift: Array,
    width: int,
    over: Halt = never,
) -> list[tuple[Cut, ...]]:
    """So many pipelines one after another that share no node; fewer where no more are found.

    Each leaves to those after it what a pipeline takes of the limits at least (``thrift``).
    """
    left, room, taken = limits.counts.copy(), limits.most.copy(), list[tuple[Cut, ...]]()
    for others in reversed(range(several)):
        rations = rationed(given, limits.takes, room - others * thrift)
        found = distinct(given, prices, left, width, rations, over)
        if not found:
            break
        taken.append(found[0])
        for way, _, _ in found[0]:
            left[given.owners[way]] -= 1
            room -= limits.takes[:, given.owners[way]]
    return taken


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
