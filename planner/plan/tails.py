"""Tails: how much later than in the mean the last few requests are answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from planner.core.metrics import percentile
from planner.core.workload import Workload
from planner.plan.within import waited

MIDDLE = 50.0
"""Percent of requests that come before the median."""
Statistics = dict[str, float | None]
"""Percentages of percentiles by name; None for the mean."""
STATISTICS: Statistics = {"mean": None, "median": MIDDLE, "p95": 95.0, "p99": 99.0}
_PROMPTS = 8
"""Lengths of prompts that stand for all where the median request is looked for."""
_HALVINGS = 20


@dataclass(frozen=True, slots=True)
class Waits:
    """What a request waits in the mean (s), by what spreads it around that."""

    inside_s: float
    """Behind prompts and steps of others: as if exponential."""
    seat_s: float = 0.0
    """For a seat: nothing for who finds one, exponential for all others."""
    taken: float = 0.0
    """Chance that all seats are taken."""
    ahead: float = 1.0
    """Requests that have to end before there is a seat: that many exponential times in a row."""

    @property
    def mean_s(self) -> float:
        """All of it."""
        return self.inside_s + self.seat_s

    def first_s(self, percent: float, prefill_s: float, longer: Callable[[float], float]) -> float:
        """First token of that percentile less one that waits for nothing and has a mean prompt.

        ``longer`` tells how much longer than the mean a prompt of a percentile is, as a share.
        """
        if percent != MIDDLE:
            return self.mean_s + self.later_s(percent, prefill_s * longer(percent))
        if self.ahead > 1:  # everybody waits in line, which takes about as long for all
            line_s = self.seat_s * (1 + erlang(self.ahead, percent))
            alone = replace(self, seat_s=0.0, taken=0.0, ahead=1.0)
            return line_s + alone.first_s(percent, prefill_s, longer)
        places = (100 * (k + 0.5) / _PROMPTS for k in range(_PROMPTS))
        return self.middle_s([prefill_s * longer(place) for place in places])

    def later_s(self, percent: float, prompt_s: float) -> float:
        """First token of that percentile less the mean one.

        ``prompt_s`` is what a prompt of that percentile takes more than a mean one. Excesses over
        the mean are independent: their squares add up. It grows with the waits and with
        ``prompt_s``, as bounds of the search need it.
        """
        rest = 1 - percent / 100
        inside_s = self.inside_s * (-math.log(rest) - 1)
        if self.ahead > 1:
            seat_s = self.seat_s * erlang(self.ahead, percent)
        else:
            found = math.log(self.taken / rest) / self.taken if self.taken > rest else 0.0
            seat_s = self.seat_s * (found - 1)
        return math.hypot(inside_s, max(0.0, seat_s), max(0.0, prompt_s))

    def middle_s(self, prompts_s: Sequence[float]) -> float:
        """Median first token less one that waits for nothing and has a mean prompt.

        ``prompts_s`` are what equally likely prompts take more than a mean one. Who finds no seat
        waits for one and inside as if exponentially long in all.
        """
        lacking_s = self.inside_s + (self.seat_s / self.taken if self.taken else 0.0)
        low_s, high_s = min(prompts_s), max(prompts_s) + math.log(2) * lacking_s

        def sooner(value_s: float) -> float:
            """Share of the requests that take no longer."""
            spare_s = [value_s - prompt_s for prompt_s in prompts_s]
            found = math.fsum(waited(self.inside_s, one) for one in spare_s)
            missed = math.fsum(waited(lacking_s, one) for one in spare_s) if self.taken else 0.0
            return ((1 - self.taken) * found + self.taken * missed) / len(prompts_s)

        return _where(sooner, 0.5, low_s, high_s)


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


def erlang(several: float, percent: float) -> float:
    """How far a percentile of so many exponential times in a row is above their mean, as a share.

    A sum of them is a gamma variable, whose cube root is nearly normal (Wilson and Hilferty 1931).
    """
    deviations = NormalDist().inv_cdf(percent / 100)
    return (1 - 1 / (9 * several) + deviations / (3 * math.sqrt(several))) ** 3 - 1


def taken(seats: float, used: float) -> float:
    """Chance that all seats are taken (Sakasegawa 1977)."""
    return math.pow(used, math.sqrt(2 * (seats + 1)) - 1)


def no_idle(share: float, somebody: float) -> float:
    """Chance that a pipeline with somebody in it gets a request, since no other one is idle.

    They are taken as independent and alike, each with that share of the requests and that chance of
    ``somebody``; 1 where there are no others.
    """
    return math.pow(somebody, 1 / share - 1)


def full(seats: int, running: float) -> float:
    """Chance that so many seats are taken where ``running`` are in the mean, as if by Poisson."""
    if not seats:
        return 1.0
    return 0.5 * math.erfc((seats - 0.5 - running) / math.sqrt(2 * running))


def mixed(
    rates: Sequence[float], samples_s: Sequence[Mapping[str, float]], statistic: str
) -> float:
    """A percentile (s) over all requests of pipelines with their own statistics.

    Each pipeline's times are taken as lognormal, of its median and its own such percentile; for the
    median, of its 95th.
    """
    percent = STATISTICS[statistic] or MIDDLE
    late = "p95" if percent == MIDDLE else statistic
    sigmas = NormalDist().inv_cdf((STATISTICS[late] or MIDDLE) / 100)
    medians_s = [sample["median"] for sample in samples_s]
    spreads = [
        math.log(sample[late] / sample["median"]) / sigmas
        if 0 < sample["median"] < sample[late]
        else 0.0
        for sample in samples_s
    ]

    def sooner(value_s: float) -> float:
        """Requests per second that take no longer."""
        total = 0.0
        for rate, median_s, spread in zip(rates, medians_s, spreads, strict=True):
            if spread:
                total += (
                    rate * 0.5 * math.erfc(math.log(median_s / value_s) / spread / math.sqrt(2))
                )
            else:
                total += rate * (median_s <= value_s)
        return total

    each_s = [sample[statistic] for sample in samples_s]
    return _where(sooner, math.fsum(rates) * percent / 100, min(each_s), max(each_s))


def _where(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The least value between the two where the function is as much as wanted."""
    if rising(low) >= wanted:
        return low
    for _ in range(_HALVINGS):
        value = (low + high) / 2
        if rising(value) < wanted:
            low = value
        else:
            high = value
    return high


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
