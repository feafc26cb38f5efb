"""Thrift: what must-haves that sum up over nodes are worth to a single pipeline."""

from __future__ import annotations

import numpy as np

from planner.plan.chain import Lengths, cheapest
from planner.plan.costs import Array
from planner.plan.floor import NOISE
from planner.plan.limits import Limits
from planner.plan.memory import Memory

_MET = 1e-6
"""Chains that close to what they were to cost at a price are as cheap as that."""
_PRICED = 20
"""Most prices that are tried for a must-have by itself."""


def leaning(
    given: Lengths, limits: Limits, prices: Array, memory: Memory | None = None
) -> tuple[Array | None, int]:
    """Prices of limits, those of must-haves such that chains cost the most; how many were solved.

    None where no chain keeps a must-have. Along the price of one, what the cheapest chain costs is
    concave: between a chain that takes too much and one that does not, the next price to try is the
    one at which both cost the same.
    """
    prices, solved = prices.copy(), 0
    for row, (takes, most) in enumerate(zip(limits.takes, limits.most, strict=True)):
        prices[len(limits.counts) + row] = price = 0.0
        thrifty, paid = cheapest(given.bare(), takes, memory), limits.each(prices)
        slack, solved = NOISE * abs(most), solved + 1
        if not thrifty.cuts or takes @ thrifty.used - most > slack:
            return None, solved
        under = given.of(thrifty.cuts) + paid @ thrifty.used, takes @ thrifty.used - most
        over, met = (0.0, 0.0), float("inf")
        for _ in range(_PRICED):
            chain, solved = cheapest(given, paid + price * takes, memory), solved + 1
            excess = float(takes @ chain.used) - most
            if (excess <= slack and not price) or chain.length - price * most >= met:
                break
            line = chain.length - price * (excess + most), excess
            over, under = (line, under) if excess > slack else (over, line)
            price = max(0.0, (under[0] - over[0]) / (over[1] - under[1]))
            met = over[0] + price * over[1] - _MET * abs(over[0])
        prices[len(limits.counts) + row] = price
    return prices, solved


def raised(limits: Limits, used: Array, prices: Array, leant: Array, gain: float) -> Array | None:
    """Prices after a subgradient step; None where nothing moves any more.

    A chain that ``used`` the nodes makes those dearer that there are too few of. The step is so
    long that what chains cost grows by ``gain``; must-haves have the prices ``leant``.
    """
    excess = used - limits.counts
    moved = (excess > 0) | (prices[: len(excess)] > 0)
    span = float((excess[moved] ** 2).sum())
    if not span:
        return None if np.allclose(leant, prices, rtol=_MET) else leant
    step = gain / span * np.where(moved, excess, 0.0)
    leant[: len(step)] = np.maximum(0.0, leant[: len(step)] + step)
    return leant
