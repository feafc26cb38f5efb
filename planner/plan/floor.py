"""Floor: the least a monotone cost takes above a plane, and so a bound on any pipeline."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

_CLOSE = 1e-3
_BOXES = 200


def floor(
    cost: Callable[[Sequence[float]], float],
    low: Sequence[float],
    weights: Sequence[float],
    total: float,
) -> float:
    """A lower bound on ``cost(x)`` over ``x >= low`` with ``weights . x >= total``.

    ``cost`` never falls as any part of ``x`` grows. Boxes that cover the plane are halved, the
    cheapest lower corner first; every value that is returned is below the cost of all that is left.
    """
    axes = [axis for axis, weight in enumerate(weights) if weight > 0]
    lacking = total - sum(weights[axis] * low[axis] for axis in axes)
    if lacking <= 0 or not axes:
        return cost(low)
    high = {axis: low[axis] + lacking / weights[axis] for axis in axes}
    beyond = min(cost([*low[:axis], high[axis], *low[axis + 1 :]]) for axis in axes)
    start = (cost(low), tuple(low), tuple(high.get(axis, low[axis]) for axis in range(len(low))))
    boxes = [start]
    for _ in range(_BOXES):
        if not boxes:
            return beyond
        value, lower, upper = boxes[0]
        if value >= beyond - _CLOSE * abs(beyond):
            return min(value, beyond)
        heapq.heappop(boxes)
        axis = max(axes, key=lambda one: weights[one] * (upper[one] - lower[one]))
        middle = (lower[axis] + upper[axis]) / 2
        for side in (
            (lower, (*upper[:axis], middle, *upper[axis + 1 :])),
            ((*lower[:axis], middle, *lower[axis + 1 :]), upper),
        ):
            corner = _tight(weights, axes, total, *side)
            if corner is not None:
                heapq.heappush(boxes, (cost(corner), corner, side[1]))
    return min(boxes[0][0] if boxes else beyond, beyond)


def _tight(
    weights: Sequence[float],
    axes: list[int],
    total: float,
    lower: tuple[float, ...],
    upper: tuple[float, ...],
) -> tuple[float, ...] | None:
    """The lower corner of what lies above the plane in a box; None where nothing does."""
    reach = sum(weights[axis] * upper[axis] for axis in axes)
    if reach < total:
        return None
    corner = list(lower)
    for axis in axes:
        spare = (reach - total) / weights[axis]
        corner[axis] = max(lower[axis], upper[axis] - spare)
    return tuple(corner)
