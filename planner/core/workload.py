"""Workload: when requests come and how long they are."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.core.arrivals import Diurnal, Gamma, OnOff, Weibull
from planner.core.metrics import percentile
from planner.core.rng import stream
from planner.core.spec import Spec
from planner.core.units import Count, Positive, RequestsPerSecond, Seconds


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``output_tokens`` is known to the oracle only; no scheduler may read it."""

    id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int


class Fixed(Spec):
    """Every request has the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: Count

    @property
    def mean_tokens(self) -> float:
        """Expected length."""
        return float(self.tokens)

    @property
    def max_tokens(self) -> int:
        """Longest length a request may have."""
        return self.tokens

    def quantile(self, share: float) -> float:
        """Length that a ``share`` of requests do not exceed."""
        return float(self.tokens)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return self.tokens


class Lognormal(Spec):
    """Lengths as chats have them: many short, few long, cut at ``max_tokens``."""

    kind: Literal["lognormal"]
    median_tokens: Positive
    sigma: Positive
    """Standard deviation of the logarithm."""
    max_tokens: Count
    min_tokens: Count = 1

    @model_validator(mode="after")
    def _ordered(self) -> Lognormal:
        if not self.min_tokens <= self.median_tokens <= self.max_tokens:
            raise ValueError("min_tokens <= median_tokens <= max_tokens does not hold")
        return self

    @property
    def mean_tokens(self) -> float:
        """Expected length, the cut at ``max_tokens`` included."""
        mu, s = math.log(self.median_tokens), self.sigma
        low, high = math.log(self.min_tokens), math.log(self.max_tokens)
        inside = math.exp(mu + s * s / 2) * (
            _normal_cdf((high - mu - s * s) / s) - _normal_cdf((low - mu - s * s) / s)
        )
        below = self.min_tokens * _normal_cdf((low - mu) / s)
        above = self.max_tokens * (1 - _normal_cdf((high - mu) / s))
        return inside + below + above

    def quantile(self, share: float) -> float:
        """Length that a ``share`` of requests do not exceed."""
        drawn = math.exp(math.log(self.median_tokens) + self.sigma * NormalDist().inv_cdf(share))
        return min(float(self.max_tokens), max(float(self.min_tokens), drawn))

    def draw(self, rng: random.Random) -> int:
        """One length."""
        drawn = round(rng.lognormvariate(math.log(self.median_tokens), self.sigma))
        return min(self.max_tokens, max(self.min_tokens, drawn))


class Empirical(Spec):
    """Lengths drawn from a list of observed ones."""

    kind: Literal["empirical"]
    tokens: tuple[Count, ...] = Field(min_length=1)

    @property
    def mean_tokens(self) -> float:
        """Expected length."""
        return sum(self.tokens) / len(self.tokens)

    @property
    def max_tokens(self) -> int:
        """Longest length a request may have."""
        return max(self.tokens)

    def quantile(self, share: float) -> float:
        """Length that a ``share`` of requests do not exceed."""
        return percentile(sorted(map(float, self.tokens)), 100 * share)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return rng.choice(self.tokens)


Lengths = Annotated[Fixed | Lognormal | Empirical, Field(discriminator="kind")]


class Poisson(Spec):
    """Independent users: exponential gaps."""

    kind: Literal["poisson"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end."""
        now_s = 0.0
        while True:
            now_s += rng.expovariate(self.requests_per_s)
            yield now_s


class Constant(Spec):
    """One request after the other at equal gaps."""

    kind: Literal["constant"]
    requests_per_s: RequestsPerSecond = Field(alias="rate", gt=0)

    def times(self, rng: random.Random) -> Iterator[float]:
        """When requests come (s), without end; the first at 0."""
        return (index / self.requests_per_s for index in itertools.count())


class Closed(Spec):
    """A fixed number of users, each sending the next request when the last is answered."""

    kind: Literal["closed"]
    concurrency: Count


Arrivals = Annotated[
    Poisson | Constant | Gamma | Weibull | OnOff | Diurnal | Closed, Field(discriminator="kind")
]

_EACH = 4
"""Requests of a user, so that those who all come at once do not decide."""


class Workload(Spec):
    """What users ask for."""

    arrivals: Arrivals
    prompt: Lengths
    """Prompt tokens of a request."""
    output: Lengths
    """Output tokens of a request."""
    requests: Count = 100
    """Requests that a simulation or a run replays."""
    warmup_requests: int = Field(default=0, ge=0)
    """Leading requests that are sent before and do not count."""
    horizon_s: Seconds | None = Field(default=None, alias="horizon")
    """When a simulation stops although requests are still running."""

    @property
    def concurrency(self) -> int | None:
        """Requests in the system of a closed loop; None where arrivals are open."""
        return self.arrivals.concurrency if isinstance(self.arrivals, Closed) else None

    @property
    def requests_per_s(self) -> float | None:
        """Offered rate of an open workload; None for a closed loop."""
        return None if isinstance(self.arrivals, Closed) else self.arrivals.requests_per_s

    @property
    def load(self) -> float:
        """Users of a closed loop, or requests per second."""
        rate = self.requests_per_s
        return float(self.concurrency or 0) if rate is None else rate

    def under(self, load: float) -> Workload:
        """The same with another load; every user of a closed loop sends four requests or more."""
        change: dict[str, float] = {"requests_per_s": load}
        requests = self.requests
        if self.concurrency is not None:
            change = {"concurrency": max(1, round(load))}
            requests = max(requests, _EACH * max(1, round(load)))
        arrivals = self.arrivals.model_copy(update=change)
        return self.model_copy(update={"arrivals": arrivals, "requests": requests})

    def sample(self, seed: int) -> Sequence[Request]:
        """The requests of one replication; arrivals of a closed loop are all at 0."""
        prompts, outputs = stream(seed, "prompt"), stream(seed, "output")
        rng = stream(seed, "arrivals")
        times = (
            itertools.repeat(0.0) if isinstance(self.arrivals, Closed) else self.arrivals.times(rng)
        )
        return tuple(
            Request(index, next(times), self.prompt.draw(prompts), self.output.draw(outputs))
            for index in range(self.requests)
        )


def paced(requests: Sequence[Request], requests_per_s: float) -> tuple[Request, ...]:
    """The same requests at another mean rate, all gaps stretched alike."""
    factor = mean_rate(requests) / requests_per_s
    return tuple(replace(one, arrival_s=one.arrival_s * factor) for one in requests)


def mean_rate(requests: Sequence[Request]) -> float:
    """Requests per second from the first to the last one; infinite where all come at once."""
    lasts_s = requests[-1].arrival_s - requests[0].arrival_s
    return (len(requests) - 1) / lasts_s if lasts_s else math.inf


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
