"""Replications: the same plan under several seeds, and how sure the means are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.workload import Request
from planner.sim.result import SimResult
from planner.sim.trial import Trial, run_trial

_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Two-sided 95 % quantiles of Student's t with 1 .. 30 degrees of freedom (standard table)."""
_RATES = ("output_throughput", "total_token_throughput", "request_throughput", "request_goodput")
"""What is nothing, and not unknown, in a run that completed no request."""


@dataclass(frozen=True, slots=True)
class Replications:
    """Results by seed, their means, and a 95 % interval of each mean."""

    results: list[SimResult]
    metrics: Metrics
    confidence: dict[str, tuple[float, float]]
    """By metric; empty for a single replication."""


def replicate(
    problem: Problem,
    plan: Plan,
    seeds: Sequence[int],
    requests: Sequence[Request] | None = None,
    visits: bool = False,
    exact_steps: bool = False,
) -> Replications:
    """One simulation per seed; other plans under the same seeds see the same requests.

    ``requests`` replace those of the workload and come at their own times.
    """
    return summary(
        [run_trial(Trial(problem, plan, seed, requests, visits, exact_steps)) for seed in seeds]
    )


def summary(results: list[SimResult]) -> Replications:
    """Replications with the means of their metrics and how sure these are.

    Latencies are those of the runs that completed anything; a price per token is known only where
    all did.
    """
    if len(results) == 1:
        return Replications(results, results[0].metrics, {})
    means: dict[str, float] = {}
    confidence: dict[str, tuple[float, float]] = {}
    for name in Metrics.model_fields:
        values = _known(name, [result.metrics for result in results])
        if not values:
            continue
        means[name] = mean = statistics.fmean(values)
        if len(values) > 1:
            half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
            confidence[name] = max(0.0, mean - half), min(mean + half, _most(name, results))
    whole = {name: round(means[name]) for name in ("completed", "failed") if name in means}
    return Replications(results, Metrics.model_validate(means | whole), confidence)


def _known(name: str, several: Sequence[Metrics]) -> list[float]:
    """The values of a metric in the runs that have one; none where that would be half the truth."""
    values = [getattr(one, name) for one in several]
    if name in _RATES:
        values = [
            0.0 if one.completed == 0 else value for one, value in zip(several, values, strict=True)
        ]
    known = [value for value in values if value is not None]
    return [] if name.startswith("usd_") and len(known) < len(values) else known


def _most(name: str, results: Sequence[SimResult]) -> float:
    """What a metric cannot exceed."""
    if name == "availability":
        return 1.0
    if name in ("completed", "failed"):
        ended = ((one.metrics.completed or 0) + (one.metrics.failed or 0) for one in results)
        return float(max(ended))
    return math.inf


def differences(
    one: Sequence[Metrics], other: Sequence[Metrics]
) -> dict[str, tuple[float, float, float]]:
    """By metric the mean of ``other`` less ``one`` under the same seeds, and its 95 % interval.

    What seeds have in common (common random numbers) is in both and drops out.
    """
    found = {}
    for name in Metrics.model_fields:
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(one, other, strict=True)]
        moved = [b - a for a, b in pairs if a is not None and b is not None]
        if len(moved) < max(2, len(pairs)):
            continue
        mean = statistics.fmean(moved)
        half = t_quantile(len(moved) - 1) * statistics.stdev(moved) / math.sqrt(len(moved))
        found[name] = mean, mean - half, mean + half
    return found


def t_quantile(degrees: int) -> float:
    """97.5 % point of Student's t; beyond the table by Cornish and Fisher's expansion (1938)."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
