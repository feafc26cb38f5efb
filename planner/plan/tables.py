"""Tables: the least that any pipeline over given nodes costs, criterion by criterion."""

from __future__ import annotations

import numpy as np

from planner.plan.costs import Array, Criterion

State = tuple[int, ...]
"""How many nodes of each class are used."""


def without(state: State, index: int) -> State:
    """The state with one node of a class less."""
    return (*state[:index], state[index] - 1, *state[index + 1 :])


def reach(criterion: Criterion, every: list[State]) -> dict[State, Array]:
    """[class, layers]: least cost of placing so many layers with exactly these nodes.

    The row is the class of the last stage. Recursion over the last stage (Bellman): cost with
    one node less, its hop, its layers. ``every`` lists states with fewer nodes first.
    """
    classes, _, width = criterion.stage.shape
    found: dict[State, Array] = {}
    for state in every:
        if not any(state):
            continue
        table = np.full((classes, width), np.inf)
        alone = sum(state) == 1
        for last in range(classes):
            if not state[last]:
                continue
            if alone:
                table[last] = _join(criterion, criterion.enter[last], criterion.stage[last, 0])
                continue
            before = found[without(state, last)]
            arrived = _join(criterion, before, criterion.hop[:, last, None]).min(axis=0)
            ways = _join(criterion, arrived[:, None], criterion.stage[last])
            table[last] = ways.min(axis=0)
        found[state] = table
    return found


def least(criterion: Criterion, table: Array) -> float:
    """Least cost of a whole pipeline, the way back included."""
    return float(_join(criterion, table[:, -1], criterion.leave).min())


def relaxed(criterion: Criterion) -> float:
    """A bound that lets nodes be used again and again: a shortest path over layers."""
    classes, _, width = criterion.stage.shape
    arrived = np.full((classes, width), np.inf)
    arrived[:, 0] = criterion.enter
    here = np.full(classes, np.inf)
    for placed in range(1, width):
        ways = _join(criterion, arrived[:, :placed], criterion.stage[:, :placed, placed])
        here = ways.min(axis=1)
        arrived[:, placed] = _join(criterion, here[:, None], criterion.hop).min(axis=0)
    return float(_join(criterion, here, criterion.leave).min())


def _join(criterion: Criterion, one: Array, two: Array) -> Array:
    joined: Array = np.maximum(one, two) if criterion.longest else one + two
    return joined
