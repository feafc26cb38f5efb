"""Limits: what the pipelines of a plan may use of a cluster between them.

Sets: classes of nodes, and must-haves that sum up over nodes (budget, how many nodes).
Each limit counts what every use of a class takes of it. A price for each limit leads chains away
from what is scarce; at any prices, what chains cost and pay bounds plans once what all limits are
worth is taken off (Lagrange).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.core.problem import Problem
from planner.plan.activity import home_usd_per_hour
from planner.plan.costs import Array

_DIGITS = 1e6
"""Steps of a dollar per hour in which prices are told apart."""
_SLACK = 1e-9
"""Rounding that breaks no limit, as a share of it."""


def reachable(most: float, each: Array) -> float:
    """The most that sums of whole multiples of ``each`` reach without passing ``most``, or more.

    Prices are in cents or a few more digits; sums of others may come as near as they like.
    """
    whole = np.rint(each * _DIGITS)
    if (np.abs(each * _DIGITS - whole) > _SLACK * _DIGITS).any():
        return most
    step = float(np.gcd.reduce(whole.astype(np.int64)))
    return float(np.floor(most * _DIGITS / step + _SLACK) * step / _DIGITS) if step else most


@dataclass(frozen=True, eq=False)
class Limits:
    """Nodes of each class, and what must-haves say of all that are used."""

    counts: Array
    """Nodes of each class."""
    takes: Array
    """[must-have, class]: what a node takes, in what one takes in the mean."""
    most: Array
    """[must-have]: how much they may take together."""

    @classmethod
    def of(cls, problem: Problem, counts: Array, rents: Array) -> Limits:
        """Those of a problem, whose classes of nodes cost so many USD per hour each."""
        must, rows = problem.requirements.must_have, list[tuple[Array, float]]()
        if must.max_nodes is not None:
            rows.append((np.ones(len(counts)), float(must.max_nodes)))
        if must.usd_per_hour is not None and rents.any():
            left_usd = reachable(must.usd_per_hour - home_usd_per_hour(problem), rents)
            rows.append((rents / rents.mean(), left_usd / rents.mean()))
        takes = np.array([row for row, _ in rows]).reshape(len(rows), len(counts))
        return cls(counts, takes, np.array([most for _, most in rows]))

    @cached_property
    def all(self) -> Array:
        """The most of every limit, counts first."""
        return np.concatenate((self.counts, self.most))

    def none(self) -> Array:
        """No price for any limit."""
        return np.zeros(len(self.all))

    def together(self, prices: Array) -> Array:
        """The same prices, with none for a node itself."""
        return np.concatenate((np.zeros(len(self.counts)), prices[len(self.counts) :]))

    def taken(self, used: Array) -> Array:
        """What nodes [class] or columns of them [class, column] take of every limit."""
        return np.concatenate((used, self.takes @ used))

    def each(self, prices: Array) -> Array:
        """What a node of each class pays at prices of all limits."""
        classes = len(self.counts)
        if not len(self.most):
            return prices
        paid: Array = prices[:classes] + prices[classes:] @ self.takes
        return paid

    def short(self, least: Array) -> bool:
        """Whether even the least that can be taken of what must-haves limit is too much."""
        return bool((least > self.most + _SLACK * np.abs(self.most)).any())

    def kept(self, used: Array) -> bool:
        """Whether nodes of each class are within all limits."""
        return bool((self.taken(used) <= self.all + _SLACK * np.abs(self.all)).all())
