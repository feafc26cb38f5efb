"""Heed: chains that keep must-haves which the quickest ones break.

The length of a chain is a sum, and so is nearly what a must-have about a latency, the budget or the
number of nodes bounds. Chains are looked for by the objective and all must-haves together, each
counted in what it allows; those that are broken weigh more the next time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from planner.core.problem import Problem
from planner.plan.costs import Array
from planner.plan.floor import Cost, slopes
from planner.plan.infeasible import relaxed_problem, with_objective
from planner.plan.limits import Limits
from planner.plan.load import Load
from planner.plan.promise import Judge, judge

TURNS = 6
"""Times that chains are looked for at most."""
_HEAVIER = 4.0
"""Times by which a must-have that is broken gets heavier at most."""
_POWER = 8
"""A must-have that is broken by a tenth gets heavier by that power of 1.1."""


def _cost(serving: Judge, vector: Sequence[float]) -> float:
    """What a pipeline costs whose last criterion is its rent."""
    return serving(vector[:-1], vector[-1]).cost


@dataclass(frozen=True)
class Bounded:
    """A latency that a must-have bounds."""

    cost: Cost
    """Of a pipeline's criteria."""
    most: float
    slopes: Array
    """How much of what is allowed each criterion takes."""


class Heed:
    """How heavy must-haves weigh for one structure."""

    def __init__(
        self, problem: Problem, load: Load, share: float, low: Sequence[float], limits: Limits
    ) -> None:
        self.limits, self.bounded = limits, list[Bounded]()
        free, must = relaxed_problem(problem), problem.requirements.must_have
        for statistic in ("mean", "p95", "p99"):
            for name in ("ttft", "tpot", "e2el"):
                bound_s = getattr(must, f"{statistic}_{name}_s")
                if bound_s is None:
                    continue
                serving = judge(with_objective(free, f"{statistic}_{name}_ms"), load, share)
                cost = partial(_cost, serving)
                most = 1e3 * bound_s * (share if statistic == "mean" else 1.0)
                self.bounded.append(Bounded(cost, most, np.array(slopes(cost, low)) / most))
        self.weights = np.ones(len(self.bounded) + len(limits.most))

    @property
    def hopeless(self) -> bool:
        """Whether there is nothing to heed, or nothing that is ever kept."""
        return not len(self.weights) or bool((self.limits.most <= 0).any())

    def lengths(self, objective: Sequence[float], low: Sequence[float]) -> list[float]:
        """Weights of criteria in a chain's length: the objective's own and those of latencies."""
        own = np.array(objective)
        sums = own * np.where(np.isfinite(low), low, 0.0)
        total = own / sums.sum() if sums.sum() > 0 else own
        for weight, one in zip(self.weights, self.bounded, strict=False):
            total = total + weight * one.slopes
        return [float(one) for one in total]

    def prices(self) -> Array:
        """Prices of limits: none for a node itself."""
        prices = self.limits.none()
        prices[len(self.limits.counts) :] = self.weights[len(self.bounded) :] / self.limits.most
        return prices

    def learn(self, vectors: Sequence[Sequence[float]]) -> bool:
        """Whether another look may help: what pipelines with these criteria break weighs more.

        Limits are always kept; where they leave no pipelines, they weigh more.
        """
        latencies = len(self.bounded)
        if not vectors:
            self.weights[latencies:] *= _HEAVIER
            return len(self.weights) > latencies
        every = np.array([max(map(one.cost, vectors)) / one.most for one in self.bounded])
        grown = np.minimum(every, 2.0) ** _POWER
        self.weights[:latencies] *= np.clip(grown, 1 / _HEAVIER, _HEAVIER)
        return bool((every > 1).any())
