"""Objective and Requirements: what must hold, and what is wished for."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

from pydantic import Field, model_validator

from planner.core.metrics import Metrics
from planner.core.spec import Spec
from planner.core.units import (
    Count,
    Fraction,
    Positive,
    RequestsPerSecond,
    Seconds,
    TokensPerSecond,
    Usd,
    UsdPerHour,
)

Wish = Literal[
    "tpot",
    "p95_tpot",
    "p99_tpot",
    "ttft",
    "p95_ttft",
    "p99_ttft",
    "e2el",
    "p95_e2el",
    "p99_e2el",
    "throughput",
    "goodput",
    "usd_per_hour",
    "usd_per_million_output_tokens",
]

Objective = Literal[Wish, "weighted"]
"""A wish by itself, or the weighted sum of all nice-to-haves."""

Direction = Literal["min", "max"]

OBJECTIVES: dict[Wish, tuple[str, str, Direction]] = {
    "tpot": ("mean_tpot_ms", "ms", "min"),
    "p95_tpot": ("p95_tpot_ms", "ms", "min"),
    "p99_tpot": ("p99_tpot_ms", "ms", "min"),
    "ttft": ("mean_ttft_ms", "ms", "min"),
    "p95_ttft": ("p95_ttft_ms", "ms", "min"),
    "p99_ttft": ("p99_ttft_ms", "ms", "min"),
    "e2el": ("mean_e2el_ms", "ms", "min"),
    "p95_e2el": ("p95_e2el_ms", "ms", "min"),
    "p99_e2el": ("p99_e2el_ms", "ms", "min"),
    "throughput": ("output_throughput", "tok/s", "max"),
    "goodput": ("request_goodput", "req/s", "max"),
    "usd_per_hour": ("usd_per_hour", "USD/h", "min"),
    "usd_per_million_output_tokens": ("usd_per_million_output_tokens", "USD/Mtok", "min"),
}
"""Metric, unit and direction of each objective."""

_RATIO: Wish = "usd_per_million_output_tokens"


def scale(objective: Objective) -> tuple[str, str, Direction]:
    """What an objective is told as, its unit and its direction."""
    if objective == "weighted":
        return "weighted", "points", "min"
    return OBJECTIVES[objective]


def wrong_weights(objective: Objective, wishes: Collection[Wish]) -> str:
    """Why these wishes cannot make up the objective; empty where they can."""
    if objective != "weighted":
        return ""
    if not wishes:
        return "weighted needs nice_to_have: what a ms, a tok/s or a USD/h is worth"
    if _RATIO in wishes:
        return f"weighted cannot weigh {_RATIO}: weigh usd_per_hour and throughput instead"
    return ""


TRUST = ("unknown", "rented", "own")
"""Whose machines nodes are, the most trusted last."""


class MustHave(Spec):
    """Hard requirements; a plan that breaks one is no plan."""

    mean_ttft_s: Seconds | None = Field(default=None, alias="mean_ttft")
    p95_ttft_s: Seconds | None = Field(default=None, alias="p95_ttft")
    p99_ttft_s: Seconds | None = Field(default=None, alias="p99_ttft")
    mean_tpot_s: Seconds | None = Field(default=None, alias="mean_tpot")
    p95_tpot_s: Seconds | None = Field(default=None, alias="p95_tpot")
    p99_tpot_s: Seconds | None = Field(default=None, alias="p99_tpot")
    mean_e2el_s: Seconds | None = Field(default=None, alias="mean_e2el")
    p95_e2el_s: Seconds | None = Field(default=None, alias="p95_e2el")
    p99_e2el_s: Seconds | None = Field(default=None, alias="p99_e2el")
    output_throughput: TokensPerSecond | None = None
    """Least output tokens per second."""
    request_goodput: RequestsPerSecond | None = None
    """Least requests per second that meet every bound on a latency, lost nodes included."""
    usd_per_hour: UsdPerHour | None = None
    """Budget."""
    usd_per_million_output_tokens: Usd | None = None
    """Highest price of a million output tokens."""
    availability: Fraction | None = None
    """Least share of the time that every stage of a request's pipeline has a node."""
    quality: Fraction | None = None
    """Least share of the unquantised quality; unknown quality never meets it."""
    regions: tuple[str, ...] | None = None
    """Regions in which layers may be placed; all where absent."""
    forbid_regions: tuple[str, ...] = ()
    max_nodes: Count | None = None
    trust: Literal["own", "rented", "unknown"] | None = None
    """Whose machines may hold layers at least: own ones only, rented ones too, or anybody's."""

    def latency_bounds_s(self) -> dict[str, float]:
        """Tightest bound on each latency (s): what a request must meet to count as good."""
        bounds: dict[str, float] = {}
        for name in ("ttft", "tpot", "e2el"):
            given = [
                value
                for statistic in ("mean", "p95", "p99")
                if (value := getattr(self, f"{statistic}_{name}_s", None)) is not None
            ]
            if given:
                bounds[name] = min(given)
        return bounds

    def missed(self, metrics: Metrics) -> list[Miss]:
        """The metric bounds that ``metrics`` break, each with its value and its bound."""
        misses = []
        for name, sign in BOUNDED.items():
            field = name.removesuffix("_ms") + "_s" if name.endswith("_ms") else name
            bound, value = getattr(self, field, None), getattr(metrics, name)
            if bound is None:
                continue
            limit = bound * 1e3 if name.endswith("_ms") else bound
            if value is None or sign * (value - limit) > 1e-9 * max(1.0, abs(limit)):
                misses.append(Miss(metric=name, value=value, bound=limit))
        return misses


class Miss(Spec):
    """A bound that is broken, in the unit of the metric."""

    metric: str
    value: float | None
    bound: float


BOUNDED: dict[str, Literal[1, -1]] = {
    "mean_ttft_ms": 1,
    "p95_ttft_ms": 1,
    "p99_ttft_ms": 1,
    "mean_tpot_ms": 1,
    "p95_tpot_ms": 1,
    "p99_tpot_ms": 1,
    "mean_e2el_ms": 1,
    "p95_e2el_ms": 1,
    "p99_e2el_ms": 1,
    "usd_per_hour": 1,
    "usd_per_million_output_tokens": 1,
    "output_throughput": -1,
    "request_goodput": -1,
    "availability": -1,
}
"""Metrics that must-haves bound; 1 where the bound is the most, -1 where it is the least."""


def at_least(name: str) -> bool:
    """Whether a must-have about a number says the least of it."""
    signs: dict[str, int] = dict(BOUNDED)
    return name == "quality" or signs.get(name) == -1


class Requirements(Spec):
    """What the plan is judged by."""

    objective: Objective = "tpot"
    must_have: MustHave = MustHave()
    nice_to_have: dict[Wish, Positive] = Field(default_factory=dict)
    """Weights of further wishes. They order what a comparison compares, by ratios to the best; with
    the objective ``weighted`` they are the objective: points for each ms, tok/s or USD/h."""

    @model_validator(mode="after")
    def _weighable(self) -> Requirements:
        if wrong := wrong_weights(self.objective, self.nice_to_have):
            raise ValueError(f"objective {wrong}")
        return self

    @property
    def terms(self) -> dict[Wish, float]:
        """What the objective is the sum of, with weights."""
        if self.objective == "weighted":
            return self.nice_to_have
        return {self.objective: 1.0}

    def points(self, metrics: Metrics) -> dict[Wish, float | None]:
        """What each term adds to a weighted sum; what is to be large is taken off."""
        found: dict[Wish, float | None] = {}
        for name, weight in self.terms.items():
            metric, _, direction = OBJECTIVES[name]
            value = user_figure(metrics, metric)
            sign = -1 if direction == "max" else 1
            found[name] = None if value is None else sign * weight * value
        return found

    def figure(self, metrics: Metrics, name: str) -> float | None:
        """A metric as reports set it beside others: the objective's own as that counts it."""
        own = self.objective != "weighted" and OBJECTIVES[self.objective][0] == name
        value: float | None = getattr(metrics, name)
        return user_figure(metrics, name) if own else value

    def value(self, metrics: Metrics) -> float | None:
        """The objective in its own unit; None where a figure is unknown."""
        if self.objective != "weighted":
            return user_figure(metrics, OBJECTIVES[self.objective][0])
        points = [one for one in self.points(metrics).values() if one is not None]
        return math.fsum(points) if len(points) == len(self.terms) else None


def user_figure(metrics: Metrics, name: str) -> float | None:
    """A figure as objectives count it: every pipeline by its weight, or the worst one.

    A mean over requests falls as a slow replica gets slower, for its users then send fewer, or the
    router others more; a percentile over all of them hides those of a pipeline.
    """
    own = name.replace("mean_", "user_") if name.startswith("mean_") else f"worst_{name}"
    counted: float | None = getattr(metrics, own, None)
    value: float | None = getattr(metrics, name)
    return value if counted is None else counted
