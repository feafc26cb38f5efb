"""Within: the share of requests that meet every bound on a latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_ROUNDED = 1 + 1e-9
"""A latency that is above its bound by rounding alone meets it."""


def waiting_within(
    bounds_s: Mapping[str, float],
    base_s: float,
    waits_s: float,
    token_s: float | None,
    answers: Sequence[float],
) -> float:
    """The share where requests wait exponentially long and their answers are drawn.

    The first token comes ``base_s`` and the wait after the request, the others ``token_s`` apart.
    A request is told by its wait and its answer, so it meets its bounds together or not at all.
    """
    pace_s = token_s or 0.0
    if not bounds_s:
        return 1.0
    if pace_s > bounds_s.get("tpot", math.inf) * _ROUNDED:
        return 0.0
    first_s = bounds_s.get("ttft", math.inf) * _ROUNDED - base_s
    last_s = bounds_s.get("e2el", math.inf) * _ROUNDED - base_s
    each = answers if math.isfinite(last_s) else answers[:1]
    spare_s = (min(first_s, last_s - pace_s * (tokens - 1)) for tokens in each)
    return math.fsum(waited(waits_s, most_s) for most_s in spare_s) / len(each)


def waited(mean_s: float, most_s: float) -> float:
    """Chance that an exponential wait is no longer than that."""
    if most_s < 0 or not mean_s:
        return float(most_s >= 0)
    return -math.expm1(-most_s / mean_s)


def sampled_within(
    bounds_s: Mapping[str, float],
    ttft_s: Sequence[float],
    tpot_s: Sequence[float],
    e2el_s: Sequence[float],
) -> float:
    """The share of known requests; one figure stands for all, none where there is no such time."""
    samples = {"ttft": ttft_s, "tpot": tpot_s, "e2el": e2el_s}
    good = [True] * len(ttft_s)
    for name, bound_s in bounds_s.items():
        met = [value <= bound_s * _ROUNDED for value in samples[name]] or [True]
        met = met * len(good) if len(met) == 1 else met
        good = [one and other for one, other in zip(good, met, strict=True)]
    return sum(good) / len(good)
