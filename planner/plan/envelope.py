"""Envelope: the least that chains pay in prices, by their length.

Every chain has a length and pays the prices of its nodes. The chain that is cheapest at some rate
(length times the rate, plus prices) touches the lower convex hull of all chains from below with a
line of that slope; the lines known so far bound the hull, and where two of them meet a rate between
them is looked at next (Eisner and Severance 1976).
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field

_EXACT = 1e-7
"""Relative difference that is rounding."""
_BEYOND = 2.5
"""Factor by which rates beyond those known are tried."""


@dataclass(frozen=True, slots=True, order=True)
class Touch:
    """The chain that is cheapest at a rate."""

    order: float
    """Minus the rate: flat lines come last."""
    length: float
    """Without prices."""
    paid: float

    @property
    def rate(self) -> float:
        """What a unit of length is worth."""
        return -self.order

    @property
    def least(self) -> float:
        """Length times the rate, plus prices: no chain has less."""
        return self.rate * self.length + self.paid


@dataclass(frozen=True, slots=True)
class Corner:
    """A point of the envelope, and a rate that may raise it; None where it is the hull's own."""

    length: float
    paid: float
    rate: float | None


@dataclass
class Envelope:
    """The lines known of one set of chains at one set of prices."""

    shortest: float
    """No chain is shorter."""
    bare: float
    """No chain pays less."""
    touches: list[Touch] = field(default_factory=list)

    def add(self, rate: float, length: float, paid: float) -> None:
        """Notes the chain that is cheapest at a rate."""
        insort(self.touches, Touch(-rate, length, paid))

    def corners(self) -> list[Corner]:
        """From the shortest length on; beyond the last one chains may pay as little as there."""
        if not self.touches:
            return [Corner(self.shortest, self.bare, None)]
        first, last = self.touches[0], self.touches[-1]
        steep = first.least - first.rate * self.shortest
        known = first.length <= self.shortest * (1 + _EXACT)
        found = [
            Corner(self.shortest, max(steep, self.bare), None if known else first.rate * _BEYOND)
        ]
        for one, two in zip(self.touches, self.touches[1:], strict=False):
            apart = one.rate - two.rate
            if apart <= _EXACT * one.rate:
                continue
            length = (one.least - two.least) / apart
            paid = one.least - one.rate * length
            found.append(Corner(length, max(paid, self.bare), _between(one, two)))
        known = last.paid <= self.bare * (1 + _EXACT) + _EXACT
        length = max((last.least - self.bare) / last.rate, found[-1].length)
        found.append(Corner(length, self.bare, None if known else last.rate / _BEYOND))
        return [corner for corner in found if corner.length >= self.shortest * (1 - _EXACT)]


def _between(one: Touch, two: Touch) -> float | None:
    """The slope from one chain to the next; None where nothing lies between their lines."""
    across, down = two.length - one.length, one.paid - two.paid
    if across <= _EXACT * max(one.length, 1e-300) or down <= 0:
        return None
    rate = down / across
    near = min(one.rate / rate, rate / two.rate) if rate > 0 else 0.0
    return rate if math.isfinite(rate) and near > 1 + _EXACT else None
