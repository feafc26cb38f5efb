"""Tables: the least that any pipeline over given nodes costs, criterion by criterion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.plan.costs import Array, Criterion, Kinds
from planner.plan.hops import Hops

State = tuple[int, ...]
"""How many nodes of each class are used."""


def without(state: State, index: int) -> State:
    """The state with one node of a class less."""
    return (*state[:index], state[index] - 1, *state[index + 1 :])


def reach(criterion: Criterion, owners: Sequence[int], every: list[State]) -> dict[State, Array]:
    """[way, layers]: least cost of placing so many layers with exactly these nodes.

    The row is the way of the last stage, of a class in ``owners``. Recursion over the last stage
    (Bellman): cost with one node less, its hop, its layers. ``every`` lists states with fewer
    nodes first.
    """
    ways, _, width = criterion.stage.shape
    found: dict[State, Array] = {}
    for state in every:
        if not any(state):
            continue
        table = np.full((ways, width), np.inf)
        alone = sum(state) == 1
        for last in range(ways):
            if not state[owners[last]]:
                continue
            if alone:
                table[last] = _join(criterion, criterion.enter[last], criterion.stage[last, 0])
                continue
            before = found[without(state, owners[last])]
            arrived = _join(criterion, before, criterion.hop[:, last, None]).min(axis=0)
            ends = _join(criterion, arrived[:, None], criterion.stage[last])
            table[last] = ends.min(axis=0)
        found[state] = table
    return found


def least(criterion: Criterion, table: Array) -> float:
    """Least cost of a whole pipeline, the way back included."""
    return float(_join(criterion, table[:, -1], criterion.leave).min())


def relaxed(criterion: Criterion, groups: Kinds, owners: Kinds) -> float:
    """A bound that lets nodes be used again and again: a shortest path over layers.

    Ways of one group have the same lines.
    """
    width, ways = criterion.table.shape[1], len(criterion.kinds)
    hops, join = Hops.of(criterion.hop, groups, owners), criterion.join
    rent = 0.0 if criterion.rent is None else criterion.rent[:, None]
    arrived = np.full((ways, width), np.inf)
    arrived[:, 0] = criterion.enter
    here = np.full((1, ways + 1), np.inf)
    able = np.isfinite(criterion.table.min(axis=0))
    for placed in range(1, width):
        starts = np.flatnonzero(able[:placed, placed])
        if not len(starts):
            continue
        each = criterion.table[:, starts, placed][criterion.kinds] + rent
        here[0, :-1] = join(arrived[:, starts], each).min(axis=1)
        arrived[:, placed] = hops.arrive(here, join)[0]
    return float(join(here[0, :-1], criterion.leave).min())


def _join(criterion: Criterion, one: Array, two: Array) -> Array:
    joined: Array = criterion.join(one, two)
    return joined
