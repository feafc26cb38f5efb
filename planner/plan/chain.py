"""Chains: pipelines as shortest paths over (layers placed, class of the last stage).

``cheapest`` lets nodes be used again and again: a lower bound. ``distinct`` uses each node once: it
keeps the few best labels of every point with the nodes they used, so it finds good pipelines, not
always the best. A price on each use of a class leads both away from scarce nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.plan.costs import Array, Criterion
from planner.plan.pipeline import Cut

Columns = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Length of every part of a pipeline; a pipeline's length is their sum."""

    stage: Array
    """[stop, class, start]"""
    hop: Array
    enter: Array
    leave: Array

    def bare(self) -> Lengths:
        """The same parts without length."""
        parts = (self.stage, self.hop, self.enter, self.leave)
        return Lengths(*(np.where(np.isfinite(part), 0.0, np.inf) for part in parts))


def lengths(criteria: Sequence[Criterion], weights: Sequence[float], longest_s: float) -> Lengths:
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

    stage = np.ascontiguousarray(mixed("stage").transpose(2, 0, 1))
    return Lengths(stage, mixed("hop"), mixed("enter"), mixed("leave"))


def cheapest(
    given: Lengths, prices: Array, once: Sequence[int] = ()
) -> tuple[float, Array, tuple[Cut, ...]]:
    """Least length plus prices of any pipeline, how often it uses each class, and its stages.

    The classes in ``once`` are used at most once: labels remember which of them they used
    (decremental state-space relaxation, Righini and Salani 2008); the others as often as they like.
    """
    width, classes, _ = given.stage.shape
    sets, rows = 1 << len(once), np.arange(classes)
    bits = np.zeros(classes, dtype=np.int64)
    bits[list(once)] = 1 << np.arange(len(once))
    with_it = (np.arange(sets)[:, None] & bits[None, :]) > 0
    source = np.arange(sets)[:, None] & ~bits[None, :]
    waiting = np.full((sets, classes, width), np.inf)
    waiting[0, :, 0] = given.enter
    start = np.zeros((width, sets, classes), dtype=np.int16)
    before = np.zeros((width, sets, classes), dtype=np.int16)
    here = np.full((sets, classes), np.inf)
    for placed in range(1, width):
        ways = waiting[:, :, :placed] + given.stage[placed, None, :, :placed]
        first = ways.argmin(axis=2)
        least = np.take_along_axis(ways, first[:, :, None], axis=2)[:, :, 0] + prices
        here = np.where(with_it | (bits == 0), least[source, rows], np.inf)
        start[placed] = first[source, rows]
        for subset in range(sets):
            via = here[subset][:, None] + given.hop
            way = via.argmin(axis=0)
            before[placed, subset], waiting[subset, :, placed] = way, via[way, rows]
        waiting[:, :, placed][with_it] = np.inf
    ends = here + given.leave
    subset, last = map(int, np.unravel_index(int(ends.argmin()), ends.shape))
    best, used, stop = float(ends[subset, last]), np.zeros(classes), width - 1
    cuts: list[Cut] = []
    while stop and np.isfinite(best):
        used[last] += 1
        at = int(start[stop, subset, last])
        cuts.append((last, at, stop))
        subset &= ~int(bits[last])
        stop, last = at, int(before[at, subset, last])
    return best, used, tuple(cuts[::-1])


def distinct(
    given: Lengths, prices: Array, counts: Array, width: int, most: int | None = None
) -> list[tuple[Cut, ...]]:
    """Short pipelines that use no node twice and at most ``most`` nodes, shortest first.

    ``width`` labels are kept at each point.
    """
    layers, classes = given.stage.shape[0] - 1, given.stage.shape[1]
    none = np.iinfo(np.int32).max
    # labels that wait at a class for their next stage: [class, layers placed, label]
    cost = np.full((classes, layers + 1, width), np.inf)
    used = np.zeros((classes, layers + 1, width, classes), dtype=np.uint8)
    stages = np.zeros((classes, layers + 1, width), dtype=np.int32)
    came = np.full((classes, layers + 1, width), none, dtype=np.int64)
    made = np.full((classes, layers + 1, width), none, dtype=np.int64)
    cost[:, 0, 0] = np.where(counts > 0, given.enter, np.inf)
    rows = np.arange(classes)[:, None]
    here = np.full((classes, width), np.inf)
    for stop in range(1, layers + 1):
        ways = (cost[:, :stop] + given.stage[stop, :, :stop, None]).reshape(classes, -1)
        pick = _least(ways, width)
        here = np.take_along_axis(ways, pick, axis=1) + prices[:, None]
        made[:, stop] = pick
        if stop == layers:
            break
        start, label = np.divmod(pick, width)
        sets = used[rows, start, label].copy()
        sets[rows, np.arange(width)[None, :], rows] += 1
        length = stages[rows, start, label] + 1
        if most is not None:
            here[length >= most] = np.inf
        flat, taken = here.reshape(-1), sets.reshape(-1, classes)
        via = flat[:, None] + given.hop.repeat(width, axis=0)
        via[taken >= counts[None, :]] = np.inf
        way = _least(via.T, width)
        cost[:, stop] = np.take_along_axis(via.T, way, axis=1)
        used[:, stop], stages[:, stop] = taken[way], length.reshape(-1)[way]
        came[:, stop] = way
    ends = (here + given.leave[:, None]).reshape(-1)
    found = []
    for end in np.argsort(ends, kind="stable")[:width]:
        if np.isfinite(ends[end]):
            found.append(_cuts(int(end), made, came, layers, width))
    return found


def _least(values: Array, width: int) -> Columns:
    """Columns of the ``width`` least values of each row, in their order; ties by column."""
    if width == 1:
        one: Columns = values.argmin(axis=1)[:, None]
        return one
    if values.shape[1] < width:
        pad = np.full((values.shape[0], width - values.shape[1]), np.inf)
        order = np.argsort(np.hstack([values, pad]), axis=1, kind="stable")
        few: Columns = np.minimum(order, values.shape[1] - 1)
        return few
    if values.shape[1] > 4 * width:
        part = np.sort(np.argpartition(values, width - 1, axis=1)[:, :width], axis=1)
        inner = np.argsort(np.take_along_axis(values, part, axis=1), axis=1, kind="stable")
        some: Columns = np.take_along_axis(part, inner, axis=1)
        return some
    every: Columns = np.argsort(values, axis=1, kind="stable")[:, :width]
    return every


def _cuts(
    end: int,
    made: Columns,
    came: Columns,
    stop: int,
    width: int,
) -> tuple[Cut, ...]:
    """The pipeline that ends in a label."""
    cuts: list[Cut] = []
    last, label = divmod(end, width)
    while True:
        start, waiting = divmod(int(made[last, stop, label]), width)
        cuts.append((last, start, stop))
        if start == 0:
            return tuple(cuts[::-1])
        last_label = int(came[last, start, waiting])
        stop = start
        last, label = divmod(last_label, width)
