"""Seconds of all decode steps of a request: exact sums of step times over a growing context."""

from __future__ import annotations

from collections.abc import Callable

from planner.core.cost import Batch
from planner.plan.load import Load

_EXACT = 1e-12


def decode_batch(load: Load, batch: float, step: float) -> Batch:
    """The ``step``-th decode step (from 1) of ``batch`` sequences of expected length."""
    cached = load.prompt_tokens + (step - 1) * load.tokens_per_step
    return Batch.decode(batch, batch * cached, load.checked_tokens)


def over_steps(time_s: Callable[[float], float], steps: float) -> float:
    """Sum of ``time_s(k)`` for k = 1 .. steps; fractional steps count in proportion.

    Step times are piecewise linear in the context, so a range whose middle lies on the line
    between its ends is summed at once and any other is halved.
    """
    if steps <= 0:
        return 0.0
    if steps < 1:
        return steps * time_s(1.0)
    return _sum(time_s, 1.0, steps, time_s(1.0), time_s(steps))


def _sum(
    time_s: Callable[[float], float], low: float, high: float, low_s: float, high_s: float
) -> float:
    count = high - low + 1
    if count <= 2:
        return (low_s + high_s) / 2 * count
    middle = low + (high - low) // 2
    middle_s = time_s(middle)
    share = (middle - low) / (high - low)
    chord_s = low_s + share * (high_s - low_s)
    if abs(middle_s - chord_s) <= _EXACT * abs(middle_s):
        return (low_s + high_s) / 2 * count
    left = _sum(time_s, low, middle, low_s, middle_s)
    after = middle + 1
    return left + _sum(time_s, after, high, time_s(after), high_s)
