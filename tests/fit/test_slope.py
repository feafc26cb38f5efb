from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.fit.slope import Slope, exp, log_slopes, variables

FORMULAS: list[Callable[[float, float], float]] = [
    lambda x, y: 3 + x * 2 - y / 4,
    lambda x, y: x / y + y / x - 1 / x,
    lambda x, y: max(x * y, x + y, 0.1) + min(x, 5.0),
    lambda x, y: 7 - exp(-x) * y,
    lambda x, y: sum([x, y, 2.0]) / (2 * (1 - min(0.95, x / (x + y)))),
]


@pytest.mark.parametrize("formula", FORMULAS)
@given(st.floats(0.3, 3), st.floats(0.4, 4))
def test_slopes_are_what_small_steps_show(
    formula: Callable[[float, float], float], x: float, y: float
) -> None:
    found = formula(*variables([x, y]))
    assert isinstance(found, Slope)
    assert float(found) == formula(x, y)
    step = 1e-6
    by = [
        (formula(x + step, y) - formula(x - step, y)) / (2 * step),
        (formula(x, y + step) - formula(x, y - step)) / (2 * step),
    ]
    bends = abs(x * y - x - y) < 1e-4 or abs(x / (x + y) - 0.95) < 1e-4
    assert bends or found.by == pytest.approx(by, rel=1e-4, abs=1e-6)


def test_logarithms_of_numbers_without_slopes_stand_still() -> None:
    (x,) = variables([4.0])
    assert log_slopes([x * x, 3.0], 1).tolist() == [[0.5], [0.0]]
    assert np.log([x]).tolist() == [np.log(4.0)]
