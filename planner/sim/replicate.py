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
    """Replications with the means of their metrics and how sure these are."""
    if len(results) == 1:
        return Replications(results, results[0].metrics, {})
    means: dict[str, float] = {}
    confidence: dict[str, tuple[float, float]] = {}
    for name in Metrics.model_fields:
        values = [getattr(result.metrics, name) for result in results]
        if any(value is None for value in values):
            continue
        mean = statistics.fmean(values)
        half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        means[name], confidence[name] = mean, (mean - half, mean + half)
    whole = {name: round(means[name]) for name in ("completed", "failed") if name in means}
    return Replications(results, Metrics.model_validate(means | whole), confidence)


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
