"""The best pipeline over exactly given nodes: order, layer ranges.

Sets: classes of interchangeable nodes, the ways to use them, layers 0 .. L.
Variables: the hop order of the nodes, the way of each and where its stage starts.
Objective: the part of the plan's objective that the pipeline brings (``promise``).
Constraints: every layer once, memory, links, latency bounds.

Best-first search (A*, Hart, Nilsson, Raphael 1968) from the last stage backwards. A label is a
suffix of stages with its criteria so far; the tables give the least that the rest adds to each
criterion. A complete label is priced exactly and goes back into the queue if that is more than was
promised, so the first priced one that leaves it is optimal. A label that is no better than another
of the same state in every criterion is dropped, unless costs depend on more than the criteria.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from planner.plan.costs import Array, Criterion
from planner.plan.halt import Halt, never
from planner.plan.promise import Promise
from planner.plan.tables import State, without
from planner.plan.ways import Cut

Vector = tuple[float, ...]
Judge = Callable[[Vector], Promise]

_PRICED, _LEAST = 100, 200
"""Labels that a pipeline counts as which is priced exactly; so many are priced in any search."""


@dataclass(order=True, slots=True)
class _Label:
    cost: float
    turn: int
    state: State = field(compare=False)
    """Nodes still to be placed, the class of the next stage included."""
    last: int = field(compare=False)
    """Way of the stage to be cut next."""
    stop: int = field(compare=False)
    """Where that stage ends; 0 for a complete pipeline."""
    vector: Vector = field(compare=False)
    cuts: tuple[Cut, ...] = field(compare=False)
    priced: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """The best pipeline, or what is known of it when the search was cut short."""

    cuts: tuple[Cut, ...] | None
    cost: float
    """Cost of the pipeline; infinite without one."""
    bound: float
    """No pipeline over these nodes costs less."""
    expanded: int


def best_pipeline(
    criteria: list[Criterion],
    tables: list[dict[State, Array]],
    owners: Sequence[int],
    nodes: State,
    judge: Judge,
    exact: Callable[[tuple[Cut, ...]], float],
    prune: bool,
    limit: int,
    over: Halt = never,
) -> Found:
    """The cheapest pipeline over exactly ``nodes``; ``exact`` prices one, infinite if refused.

    After ``limit`` labels, or where it is ``over``, the search ends with the bound it has reached.
    To price a pipeline takes as long as many labels, and counts as many.
    """
    queue: list[_Label] = []
    seen: dict[tuple[State, int, int], list[Vector]] = {}
    turn = expanded = priced = 0
    most = max(_LEAST, limit // _PRICED)
    layers = criteria[0].stage.shape[1] - 1
    for last, owner in enumerate(owners):
        if nodes[owner]:
            start = tuple(float(criterion.leave[last]) for criterion in criteria)
            cost = judge(_bound(criteria, start, tables, nodes, last, layers)).cost
            if math.isfinite(cost):
                heapq.heappush(queue, _Label(cost, turn, nodes, last, layers, start, ()))
                turn += 1
    while queue:
        label = heapq.heappop(queue)
        if label.priced:
            return Found(label.cuts, label.cost, label.cost, expanded)
        if label.stop == 0:
            if priced >= most or over():
                return Found(None, math.inf, label.cost, max(expanded, limit))
            priced += 1
            label.cost, label.priced = max(label.cost, exact(label.cuts)), True
            if math.isfinite(label.cost):
                heapq.heappush(queue, label)
            continue
        if expanded >= limit or over():
            return Found(None, math.inf, label.cost, expanded)
        expanded += 1
        for state, last, stop, vector, cut in _extensions(criteria, owners, label):
            key = (state, last, stop)
            if prune and stop and _dominated(seen.setdefault(key, []), vector):
                continue
            whole = _bound(criteria, vector, tables, state, last, stop) if stop else vector
            cost = judge(whole).cost
            if math.isfinite(cost):
                cuts = (cut, *label.cuts)
                heapq.heappush(queue, _Label(cost, turn, state, last, stop, vector, cuts))
                turn += 1
    return Found(None, math.inf, math.inf, expanded)


def _extensions(
    criteria: list[Criterion], owners: Sequence[int], label: _Label
) -> Iterator[tuple[State, int, int, Vector, Cut]]:
    """Every way to cut the label's stage, with the way of the stage before it."""
    last, stop = label.last, label.stop
    rest = without(label.state, owners[last])
    if not any(rest):
        vector = _joined(
            criteria,
            label.vector,
            [float(criterion.stage[last, 0, stop]) for criterion in criteria],
            [float(criterion.enter[last]) for criterion in criteria],
        )
        yield rest, last, 0, vector, (last, 0, stop)
        return
    fits = np.flatnonzero(np.isfinite(criteria[0].stage[last, :stop, stop]))
    for start in map(int, fits[fits >= sum(rest)]):
        added = [float(criterion.stage[last, start, stop]) for criterion in criteria]
        for before, owner in enumerate(owners):
            if rest[owner]:
                hop = [float(criterion.hop[before, last]) for criterion in criteria]
                vector = _joined(criteria, label.vector, added, hop)
                yield rest, before, start, vector, (last, start, stop)


def _joined(criteria: list[Criterion], vector: Vector, *more: list[float]) -> Vector:
    return tuple(
        max(value, *parts) if criterion.longest else value + sum(parts)
        for criterion, value, *parts in zip(criteria, vector, *more, strict=True)
    )


def _bound(
    criteria: list[Criterion],
    vector: Vector,
    tables: list[dict[State, Array]],
    state: State,
    last: int,
    stop: int,
) -> Vector:
    """Criteria of the whole pipeline at best."""
    rest = [float(table[state][last, stop]) for table in tables]
    return _joined(criteria, vector, rest)


def _dominated(others: list[Vector], vector: Vector) -> bool:
    """Whether another label is at least as good everywhere; notes the vector if not."""
    if any(all(a <= b for a, b in zip(other, vector, strict=True)) for other in others):
        return True
    others[:] = [
        other for other in others if not all(b <= a for a, b in zip(other, vector, strict=True))
    ]
    others.append(vector)
    return False
