"""Least squares of many knobs that each pull a little towards where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

_FIRST, _LEAST, _MORE = 0.02, 0.005, 5.0
"""Damping to begin with where a plain step leads upwards, below which it is none, and its factor.
"""
_TRIES = 8


def least_squares(
    residuals: Callable[[Vector], Vector],
    slopes: Callable[[Vector], Vector],
    first: Vector,
    steps: int,
    gain: float = 1e-4,
) -> Vector:
    """Where the sum of squared ``residuals`` is least, from ``first``.

    Gauss-Newton steps, damped as far as they lead upwards (Levenberg 1944; Marquardt 1963), at most
    ``steps`` of them, until one gains less than a share ``gain`` of the sum. Every variable must
    have a residual of its own, so that a step always exists.
    """
    here, damping = first, 0.0
    left = residuals(here)
    for _ in range(steps):
        by = slopes(here)
        bend, pull = by.T @ by, by.T @ left
        for _ in range(_TRIES):
            there = here - np.linalg.solve(bend + damping * np.diag(np.diag(bend)), pull)
            less = residuals(there)
            if less @ less < left @ left:
                break
            damping = max(damping * _MORE, _FIRST)
        else:
            return here
        gained = 1 - (less @ less) / (left @ left)
        here, left = there, less
        damping = damping / _MORE if damping > _LEAST else 0.0
        if gained < gain:
            return here
    return here
