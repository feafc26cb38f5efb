"""Objective and Requirements: what must hold, and what is wished for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.core.metrics import Metrics
from planner.core.spec import Spec
from planner.core.units import Count, Fraction, Positive, Seconds, TokensPerSecond, Usd, UsdPerHour

Objective = Literal[
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
    "usd_per_hour",
    "usd_per_million_output_tokens",
]

OBJECTIVES: dict[Objective, tuple[str, str, Literal["min", "max"]]] = {
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
    "usd_per_hour": ("usd_per_hour", "USD/h", "min"),
    "usd_per_million_output_tokens": ("usd_per_million_output_tokens", "USD/Mtok", "min"),
}
"""Metric, unit and direction of each objective."""

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
    output_throughput: TokensPerSecond | None = None
    """Least output tokens per second."""
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
    "usd_per_hour": 1,
    "usd_per_million_output_tokens": 1,
    "output_throughput": -1,
    "availability": -1,
}
"""Metrics that must-haves bound; 1 where the bound is the most, -1 where it is the least."""


class Requirements(Spec):
    """What the plan is judged by."""

    objective: Objective = "tpot"
    must_have: MustHave = MustHave()
    nice_to_have: dict[Objective, Positive] = Field(default_factory=dict)
    """Weights of further wishes, used to rank plans of equal objective."""
