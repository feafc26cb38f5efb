"""Workload: when requests come and how long they are."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.core.arrivals import Diurnal, Gamma, OnOff, Weibull
from planner.core.metrics import percentile
from planner.core.request import Request as Request
from planner.core.request import Requests
from planner.core.rng import normal, normals, stream
from planner.core.sessions import Sessions
from planner.core.spec import Spec
from planner.core.units import Count, Positive, RequestsPerSecond, Seconds


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

    @property
    def unevenness(self) -> float:
        """Squared coefficient of variation."""
        return 0.0

    def moment(self, power: int) -> float:
        """Expected power of a length."""
        return math.pow(self.tokens, power)

    def quantile(self, share: float) -> float:
        """Length that a ``share`` of requests do not exceed."""
        return float(self.tokens)

    def draw(self, rng: random.Random) -> int:
        """One length."""
        return self.tokens

    def several(self, rng: random.Random, count: int) -> list[int]:
        """The same as so many draws."""
        return [self.tokens] * count


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
        return self.moment(1)

    @property
    def unevenness(self) -> float:
        """Squared coefficient of variation."""
        return self.moment(2) / self.mean_tokens**2 - 1

    def moment(self, power: int) -> float:
        """Expected power of a length."""
        below_cut = NormalDist().cdf
        mu, s = math.log(self.median_tokens), self.sigma
        low, high = math.log(self.min_tokens), math.log(self.max_tokens)
        shift = power * s * s
        inside = math.exp(power * mu + power * shift / 2) * (
            below_cut((high - mu - shift) / s) - below_cut((low - mu - shift) / s)
        )
        below = math.exp(power * low) * below_cut((low - mu) / s)
        above = math.exp(power * high) * (1 - below_cut((high - mu) / s))
        return inside + below + above

    def quantile(self, share: float) -> float:
        """Length that a ``share`` of requests do not exceed."""
        drawn = math.exp(math.log(self.median_tokens) + self.sigma * NormalDist().inv_cdf(share))
        return min(float(self.max_tokens), max(float(self.min_tokens), drawn))

    def draw(self, rng: random.Random) -> int:
        """One length."""
        drawn = round(math.exp(math.log(self.median_tokens) + self.sigma * normal(rng)))
        return min(self.max_tokens, max(self.min_tokens, drawn))

    def several(self, rng: random.Random, count: int) -> list[int]:
        """The same as so many draws."""
        import numpy as np

        logarithms = math.log(self.median_tokens) + self.sigma * normals(rng, count)
        # the exponential of numpy may be another in its last digit, and so would be a length
        drawn = list(map(math.exp, logarithms.tolist()))
        lengths = np.rint(np.clip(drawn, self.min_tokens, self.max_tokens))
        return list(map(int, lengths.tolist()))


class Empirical(Spec):
    """Lengths drawn from a list of observed ones."""

    kind: Literal["empirical"]
    tokens: tuple[Count, ...] = Field(min_length=1)

    @cached_property
    def mean_tokens(self) -> float:
        """Expected length."""
        return sum(self.tokens) / len(self.tokens)

    @cached_property
    def unevenness(self) -> float:
        """Squared coefficient of variation."""
        return self.moment(2) / self.mean_tokens**2 - 1

    def moment(self, power: int) -> float:
        """Expected power of a length."""
        return math.fsum(math.pow(tokens, power) for tokens in self.tokens) / len(self.tokens)

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

    def several(self, rng: random.Random, count: int) -> list[int]:
        """The same as so many draws."""
        return [rng.choice(self.tokens) for _ in range(count)]


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
_MANY = 4096
"""Turns that are drawn to know what to expect of sessions."""
_AT_ONCE = 1 << 14
"""Lengths that are drawn at a time, so that what they are made of does not add up."""


class Workload(Spec):
    """What users ask for."""

    arrivals: Arrivals
    prompt: Lengths
    """Prompt tokens of a request."""
    output: Lengths
    """Output tokens of a request."""
    sessions: Sessions | None = None
    """Conversations that the requests are turns of; None where every request is its own. ``prompt``
    is then what a turn adds, and arrivals, whose rate still counts requests, begin sessions."""
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
        if self.sessions is not None:
            begins_s = self._times(seed, self.turns_per_session)
            drawn = self.sessions.draw(seed, begins_s, self.prompt, self.output)
            return tuple(itertools.islice(drawn, self.requests))
        count = self.requests
        return Requests(
            range(count),
            array("d", itertools.islice(self._times(seed), count)),
            _drawn(self.prompt, stream(seed, "prompt"), count),
            _drawn(self.output, stream(seed, "output"), count),
        )

    def _times(self, seed: int, requests_each: float = 1.0) -> Iterator[float]:
        """When something begins that stands for so many requests each."""
        if isinstance(self.arrivals, Closed):
            return itertools.repeat(0.0)
        rate = self.arrivals.requests_per_s / requests_each
        arrivals = self.arrivals.model_copy(update={"requests_per_s": rate})
        return arrivals.times(stream(seed, "arrivals"))

    @property
    def prompts(self) -> Lengths:
        """Lengths of whole prompts: with sessions those of many that were drawn once."""
        if self.sessions is None:
            return self.prompt
        return _whole_prompts(self.sessions, self.prompt, self.output)

    @cached_property
    def cached_tokens(self) -> tuple[float, float]:
        """Tokens in the cache of a request that is being answered: mean and variance over time.

        A token of the answer takes as long as any other, so whoever looks finds an answer of ``o``
        tokens ``o`` times as often as one of a single token, and somewhere in it.
        """
        prompt, answer = self.prompts.moment, self.output.moment
        mean = prompt(1) + answer(2) / answer(1) / 2
        square = prompt(2) + prompt(1) * answer(2) / answer(1) + answer(3) / answer(1) / 3
        return mean, max(0.0, square - mean * mean)

    @property
    def turns(self) -> tuple[Request, ...]:
        """Turns of whole sessions that stand for what is expected; none without sessions."""
        if self.sessions is None:
            return ()
        return _turns(self.sessions, self.prompt, self.output)

    @property
    def longest_prompt_tokens(self) -> int:
        """Longest whole prompt."""
        return self.sessions.max_tokens if self.sessions else self.prompt.max_tokens

    @property
    def longest_tokens(self) -> int:
        """Longest prompt and answer together."""
        if self.sessions is not None:
            return self.sessions.max_tokens
        return self.prompt.max_tokens + self.output.max_tokens

    @property
    def turns_per_session(self) -> float:
        """Requests of a session in the mean, those it had no room for left out."""
        if self.sessions is None:
            return 1.0
        return len(self.turns) / sum(one.after is None for one in self.turns)

    @model_validator(mode="after")
    def _first_turns_fit(self) -> Workload:
        longest = self.prompt.max_tokens + self.output.max_tokens
        if self.sessions is not None and longest > self.sessions.max_tokens:
            raise ValueError(
                f"a first turn has up to {longest} tokens, which are more than the "
                f"{self.sessions.max_tokens} of sessions.max_tokens"
            )
        return self


def _drawn(lengths: Lengths, rng: random.Random, count: int) -> array[int]:
    drawn = array("q")
    for start in range(0, count, _AT_ONCE):
        drawn.extend(lengths.several(rng, min(_AT_ONCE, count - start)))
    return drawn


@lru_cache(maxsize=64)
def _turns(sessions: Sessions, prompt: Lengths, output: Lengths) -> tuple[Request, ...]:
    """Whole sessions with some thousand turns, which stand for what is expected."""
    drawn = sessions.draw(0, itertools.repeat(0.0), prompt, output)
    found = list(itertools.islice(drawn, _MANY))
    last = found[-1].session
    return tuple(one for one in found if one.session != last) or tuple(found)


@lru_cache(maxsize=64)
def _whole_prompts(sessions: Sessions, prompt: Lengths, output: Lengths) -> Empirical:
    drawn = _turns(sessions, prompt, output)
    return Empirical(kind="empirical", tokens=tuple(one.prompt_tokens for one in drawn))
