"""Tails: how much later than in the mean the last few requests are answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.core.metrics import percentile
from planner.core.workload import Workload


@dataclass(frozen=True, slots=True)
class Waits:
    """What a request waits in the mean (s), by what spreads it around that."""

    inside_s: float
    """Behind prompts and steps of others: as if exponential."""
    seat_s: float = 0.0
    """For a seat: nothing for who finds one, exponential for all others."""
    taken: float = 0.0
    """Chance that all seats are taken."""

    @property
    def mean_s(self) -> float:
        """All of it."""
        return self.inside_s + self.seat_s

    def later_s(self, percent: float, prompt_s: float) -> float:
        """First token of that percentile less the mean one.

        ``prompt_s`` is what a prompt of that percentile takes more than a mean one. Excesses over
        the mean are independent: their squares add up. Below the mean everything is taken to go
        together. Each grows with the waits and with ``prompt_s``, as bounds of the search need it.
        """
        rest = 1 - percent / 100
        inside_s = self.inside_s * (-math.log(rest) - 1)
        found = math.log(self.taken / rest) / self.taken if self.taken > rest else 0.0
        seat_s = self.seat_s * (found - 1)
        if inside_s < 0:
            return inside_s + seat_s + prompt_s
        return math.hypot(inside_s, max(0.0, seat_s), max(0.0, prompt_s))


def longer(workload: Workload, unevenness: float, percent: float) -> float:
    """How much longer than the mean a prompt of that percentile is, as a share of the mean.

    ``unevenness`` is the squared coefficient of variation of what is computed of prompts, which
    prefixes in a cache change.
    """
    prompts = workload.prompts
    given = prompts.unevenness
    if not given or not unevenness:
        return 0.0
    excess = prompts.quantile(percent / 100) / prompts.mean_tokens - 1
    return excess * math.sqrt(unevenness / given)


def taken(seats: int, used: float) -> float:
    """Chance that all seats are taken (Sakasegawa 1977)."""
    return math.pow(used, math.sqrt(2 * (seats + 1)) - 1)


def full(seats: int, running: float) -> float:
    """Chance that so many seats are taken where ``running`` are in the mean, as if by Poisson."""
    if not seats:
        return 1.0
    return 0.5 * math.erfc((seats - 0.5 - running) / math.sqrt(2 * running))


def sampled(sample_s: Sequence[float], wanted: Mapping[str, float | None]) -> dict[str, float]:
    """Mean and percentiles of known times (s); nothing where there is none."""
    if not sample_s:
        return {}
    ordered = sorted(sample_s)
    mean = math.fsum(ordered) / len(ordered)
    return {
        name: mean if percent is None else percentile(ordered, percent)
        for name, percent in wanted.items()
    }
