"""Columns: which of many pipelines run side by side, each node in at most one.

Sets: the pipelines found so far; rows are classes of nodes.
Variables: how often each pipeline runs.
Objective: the sum of their costs.
Constraints: as many pipelines as replicas; no more nodes of a class than there are.

The linear program tells what a node is worth (its prices lead to further pipelines: column
generation, Gilmore and Gomory 1961); the integer program picks a plan among those that use no node
twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from planner.plan.costs import Array, Kinds
from planner.plan.ways import Cut

_NONE = 1e-6
"""Share of a pipeline that is rounding."""
_BRANCHES = 2000
"""Nodes of the branch-and-bound tree of one integer program at most."""


@dataclass
class Known:
    """What structures learn from each other."""

    pipelines: dict[tuple[str, ...], dict[tuple[Cut, ...], None]] = field(default_factory=dict)
    """By the schemes that stages choose from, which say what the ways in cuts mean."""
    prices: Array | None = None
    """Of nodes by class."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What the linear program says."""

    value: float
    """Least cost of fractions of pipelines."""
    prices: Array
    """What one more node of a class would save."""
    picked: list[tuple[Cut, ...]]
    """Pipelines of which it takes a share, the largest first."""


@dataclass
class Columns:
    """Pipelines with their costs; of those over the same nodes only the cheapest."""

    counts: Array
    """Nodes of each class."""
    owners: Kinds
    """[way] -> class."""
    replicas: int
    known: dict[tuple[int, ...], tuple[float, tuple[Cut, ...]]] = field(default_factory=dict)

    def wants(self, cuts: tuple[Cut, ...], cost: float) -> bool:
        """Whether the pipeline is new and worth keeping."""
        known = self.known.get(self._nodes(cuts))
        return math.isfinite(cost) and (known is None or cost < known[0])

    def add(self, cuts: tuple[Cut, ...], cost: float) -> bool:
        """The same; it is kept then."""
        wanted = self.wants(cuts, cost)
        if wanted:
            self.known[self._nodes(cuts)] = cost, cuts
        return wanted

    def _nodes(self, cuts: tuple[Cut, ...]) -> tuple[int, ...]:
        return tuple(sorted(self.owners[[way for way, _, _ in cuts]].tolist()))

    def drop(self, forbidden: Callable[[tuple[Cut, ...]], bool]) -> None:
        """Forgets the pipelines that are no longer allowed."""
        self.known = {n: entry for n, entry in self.known.items() if not forbidden(entry[1])}

    def used(self, cuts: tuple[Cut, ...]) -> Array:
        """How many nodes of each class a pipeline takes."""
        kinds = [self.owners[way] for way, _, _ in cuts]
        return np.bincount(kinds, minlength=len(self.counts)).astype(float)

    def priced(self, real: bool = False) -> Priced:
        """Fractions of pipelines at the least cost; ``real`` leaves out those that reuse nodes.

        A replica may stay out at a cost far above that of any pipeline, so there is an answer.
        """
        columns = [
            (cost, used, cuts)
            for cost, used, cuts in (
                (cost, self.used(cuts), cuts) for cost, cuts in self.known.values()
            )
            if not real or (used <= self.counts).all()
        ]
        if not columns:
            return Priced(math.inf, np.zeros(len(self.counts)), [])
        costs = np.array([cost for cost, *_ in columns])
        dear = costs.max() + 2 * np.abs(costs).max()
        uses = np.array([used for _, used, _ in columns]).T
        solved = linprog(
            np.append(costs, dear),
            A_ub=np.hstack([uses, np.zeros((len(self.counts), 1))]),
            b_ub=self.counts,
            A_eq=np.ones((1, len(columns) + 1)),
            b_eq=[self.replicas],
            method="highs",
        )
        prices: Array = np.maximum(0.0, -solved.ineqlin.marginals)
        often = np.argsort(-solved.x[:-1], kind="stable")
        picked = [columns[at][2] for at in often if solved.x[at] > _NONE]
        return Priced(float(solved.fun), prices, picked)

    def chosen(self, limits: Sequence[tuple[Array, float]] = ()) -> list[tuple[Cut, ...]] | None:
        """The cheapest disjoint pipelines; each limit is what a class counts, and the most of it.

        None where none are known to fit together.
        """
        columns = [
            (cost, cuts, used)
            for cost, cuts in self.known.values()
            if (used := self.used(cuts) <= self.counts).all()
        ]
        if not columns:
            return None
        uses = np.array([self.used(cuts) for _, cuts, _ in columns]).T
        rows = [LinearConstraint(uses, -np.inf, self.counts)]
        rows.append(LinearConstraint(np.ones((1, len(columns))), self.replicas, self.replicas))
        rows += [LinearConstraint(weights @ uses, -np.inf, most) for weights, most in limits]
        solved = milp(
            [cost for cost, _, _ in columns],
            constraints=rows,
            integrality=np.ones(len(columns)),
            bounds=Bounds(0, self.replicas),
            options={"node_limit": _BRANCHES},
        )
        if solved.x is None:
            return None
        picked: list[tuple[Cut, ...]] = []
        for often, (_, cuts, _) in zip(np.rint(solved.x).astype(int), columns, strict=True):
            picked += [cuts] * int(often)
        return picked
