"""Arrivals that are burstier than independent users, or follow the hour of the day."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from planner.core.spec import Spec
from planner.core.units import Fraction, Positive, RequestsPerSecond, Seconds


class Gamma(Spec):
    """Gaps of a gamma distribution; shape 1 is Poisson, below 1 comes in bursts."""

    kind: Literal["gamma"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)
    shape: Positive

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end."""
        now_s, scale_s = 0.0, 1 / (self.requests_per_s * self.shape)
        while True:
            now_s += rng.gammavariate(self.shape, scale_s)
            yield now_s


class Weibull(Spec):
    """Gaps of a Weibull distribution; shape 1 is Poisson, below 1 comes in bursts."""

    kind: Literal["weibull"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)
    shape: Positive

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end."""
        now_s, scale_s = 0.0, 1 / (self.requests_per_s * math.gamma(1 + 1 / self.shape))
        while True:
            now_s += rng.weibullvariate(scale_s, self.shape)
            yield now_s


class OnOff(Spec):
    """Independent users who all pause together: exponential times with and without requests."""

    kind: Literal["on_off"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)
    """Mean rate, pauses included."""
    on_s: Seconds = Field(alias="on", gt=0)
    """Mean length of a time with requests."""
    off_s: Seconds = Field(alias="off", ge=0)
    """Mean length of a pause."""

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end; the first pause is after the first requests."""
        start_s, rate = 0.0, self.requests_per_s * (self.on_s + self.off_s) / self.on_s
        while True:
            stop_s = start_s + rng.expovariate(1 / self.on_s)
            now_s = start_s + rng.expovariate(rate)
            while now_s < stop_s:
                yield now_s
                now_s += rng.expovariate(rate)
            start_s = stop_s + (rng.expovariate(1 / self.off_s) if self.off_s else 0.0)


class Diurnal(Spec):
    """Independent users whose rate rises and falls as a sine, from its mean at 0."""

    kind: Literal["diurnal"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)
    """Mean rate."""
    swing: Fraction
    """How far the rate goes above and below its mean, as a share of it."""
    period_s: Seconds = Field(default=86_400.0, alias="period", gt=0)

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end: thinning (Lewis and Shedler 1979)."""
        now_s, most = 0.0, self.requests_per_s * (1 + self.swing)
        while True:
            now_s += rng.expovariate(most)
            wave = math.sin(2 * math.pi * now_s / self.period_s)
            if rng.random() * most < self.requests_per_s * (1 + self.swing * wave):
                yield now_s
