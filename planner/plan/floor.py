"""Floor: the least a monotone cost takes above a plane, and so a bound on any pipeline."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence

Cost = Callable[[Sequence[float]], float]
_Box = tuple[float, tuple[float, ...], tuple[float, ...]]
"""Cost of the lower corner, and both corners."""

NOISE = 1e-9
"""Growth of a cost that is rounding."""
_CLOSE = 1e-3
_BOXES = 200


def slopes(cost: Cost, vector: Sequence[float]) -> list[float]:
    """How much a cost grows with each part of a vector, near it."""
    base, found = cost(vector), []
    for index, value in enumerate(vector):
        step = 1e-3 * value if math.isfinite(value) else 0.0
        more = cost([*vector[:index], value + step, *vector[index + 1 :]])
        grown = more - base if math.isfinite(more) else 0.0
        felt = step and grown > NOISE * abs(base)
        found.append(grown / step if felt else 0.0)
    return found


def floor(
    cost: Cost, low: Sequence[float], weights: Sequence[float], total: float, straight: bool = False
) -> float:
    """A lower bound on ``cost(x)`` over ``x >= low`` with ``weights . x >= total``."""
    return Floor(cost, low, weights, total, straight).at_least(math.inf)


class Floor:
    """The same, looked at only as closely as needed.

    ``cost`` never falls as any part of ``x`` grows. Boxes that cover the plane are halved, the
    cheapest lower corner first; every value that is returned is below the cost of all that is left.
    A ``straight`` cost is quasi-concave, so it is least where the plane meets an axis.
    """

    def __init__(
        self,
        cost: Cost,
        low: Sequence[float],
        weights: Sequence[float],
        total: float,
        straight: bool = False,
    ) -> None:
        self._cost, self._weights, self._total = cost, weights, total
        self._axes = [axis for axis, weight in enumerate(weights) if weight > 0]
        lacking = total - sum(weights[axis] * low[axis] for axis in self._axes)
        self._beyond, self._boxes, self._left = cost(low), list[_Box](), 0
        if lacking <= 0 or not self._axes:
            return
        high = {axis: low[axis] + lacking / weights[axis] for axis in self._axes}
        bottom = self._beyond
        self._beyond = min(cost([*low[:axis], high[axis], *low[axis + 1 :]]) for axis in self._axes)
        if straight:
            return
        upper = tuple(high.get(axis, low[axis]) for axis in range(len(low)))
        self._boxes, self._left = [(bottom, tuple(low), upper)], _BOXES

    def at_least(self, enough: float) -> float:
        """A lower bound, as tight as it gets or beyond ``enough``."""
        weights, boxes = self._weights, self._boxes
        while boxes and self._left:
            value, lower, upper = boxes[0]
            if value >= min(enough, self._beyond - _CLOSE * abs(self._beyond)):
                break
            self._left -= 1
            heapq.heappop(boxes)
            axis = max(self._axes, key=lambda one: weights[one] * (upper[one] - lower[one]))
            middle = (lower[axis] + upper[axis]) / 2
            for side in (
                (lower, (*upper[:axis], middle, *upper[axis + 1 :])),
                ((*lower[:axis], middle, *lower[axis + 1 :]), upper),
            ):
                corner = _tight(weights, self._axes, self._total, *side)
                if corner is not None:
                    heapq.heappush(boxes, (self._cost(corner), corner, side[1]))
        return min(boxes[0][0], self._beyond) if boxes else self._beyond


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
