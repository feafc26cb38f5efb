"""Slope: a number that knows its derivatives, so that one evaluation gives them all.

Forward-mode automatic differentiation (Wengert, CACM 7(8), 1964): the cost model is evaluated as it
is, with constants of this kind. Where it takes the longer of two times, the slope is the longer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


class Slope(float):
    """A value with its derivatives by some variables."""

    __slots__ = ("by",)
    by: Vector

    @classmethod
    def of(cls, value: float, by: Vector) -> Slope:
        """``value``, which changes as ``by`` says."""
        made = cls(value)
        made.by = by
        return made

    def __add__(self, other: float) -> Slope:
        by = self.by + other.by if isinstance(other, Slope) else self.by
        return Slope.of(float(self) + float(other), by)

    __radd__ = __add__

    def __neg__(self) -> Slope:
        return Slope.of(-float(self), -self.by)

    def __sub__(self, other: float) -> Slope:
        by = self.by - other.by if isinstance(other, Slope) else self.by
        return Slope.of(float(self) - float(other), by)

    def __rsub__(self, other: float) -> Slope:
        return Slope.of(float(other) - float(self), -self.by)

    def __mul__(self, other: float) -> Slope:
        by = self.by * float(other)
        if isinstance(other, Slope):
            by = by + other.by * float(self)
        return Slope.of(float(self) * float(other), by)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> Slope:
        value = float(self) / float(other)
        by = self.by - value * other.by if isinstance(other, Slope) else self.by
        return Slope.of(value, by / float(other))

    def __rtruediv__(self, other: float) -> Slope:
        value = float(other) / float(self)
        return Slope.of(value, self.by * (-value / float(self)))


def exp(value: float) -> float:
    """The exponential of ``value``, with its slopes if it has any."""
    raised = math.exp(value)
    return Slope.of(raised, value.by * raised) if isinstance(value, Slope) else raised


def log_slopes(values: Iterable[float], variables: int) -> npt.NDArray[np.float64]:
    """Derivatives of the logarithms of ``values``, one row each; 0 where one has no slopes."""
    still = np.zeros(variables)
    return np.array(
        [value.by / float(value) if isinstance(value, Slope) else still for value in values]
    )


def variables(values: Iterable[float]) -> list[Slope]:
    """Each value as a variable of its own."""
    known = list(values)
    return [Slope.of(value, one) for value, one in zip(known, np.eye(len(known)), strict=True)]
