"""Columns: which of many pipelines run side by side, each node in at most one.

Sets: the pipelines found so far; rows are classes of nodes.
Variables: how often each pipeline runs.
Objective: the sum of their costs.
Constraints: as many pipelines as replicas; no more nodes of a class than there are, and no more of
what must-haves say about all of them.

The linear program tells what a node and each must-have is worth (its prices lead to further
pipelines: column generation, Gilmore and Gomory 1961); the integer program picks a plan among those
that use no node twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from planner.plan.costs import Array, Kinds
from planner.plan.limits import Limits
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
    """Of limits."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What the linear program says."""

    value: float
    """Least cost of fractions of pipelines."""
    prices: Array
    """What one more of each limit would save: a node of a class first."""
    picked: list[tuple[Cut, ...]]
    """Pipelines of which it takes a share, the largest first."""


@dataclass(frozen=True, slots=True)
class Column:
    """A pipeline."""

    cost: float
    cuts: tuple[Cut, ...]
    used: Array
    """How many nodes of each class it takes."""


@dataclass
class Columns:
    """Pipelines with their costs; of those over the same nodes only the cheapest."""

    limits: Limits
    owners: Kinds
    """[way] -> class."""
    replicas: int
    known: dict[tuple[int, ...], Column] = field(default_factory=dict)

    def wants(self, cuts: tuple[Cut, ...], cost: float) -> bool:
        """Whether the pipeline is new and worth keeping."""
        known = self.known.get(self._nodes(cuts))
        return math.isfinite(cost) and (known is None or cost < known.cost)

    def add(self, cuts: tuple[Cut, ...], cost: float) -> bool:
        """The same; it is kept then."""
        wanted = self.wants(cuts, cost)
        if wanted:
            self.known[self._nodes(cuts)] = Column(cost, cuts, self.used(cuts))
        return wanted

    def _nodes(self, cuts: tuple[Cut, ...]) -> tuple[int, ...]:
        return tuple(sorted(self.owners[[way for way, _, _ in cuts]].tolist()))

    def drop(self, forbidden: Callable[[tuple[Cut, ...]], bool]) -> None:
        """Forgets the pipelines that are no longer allowed."""
        self.known = {n: one for n, one in self.known.items() if not forbidden(one.cuts)}

    def used(self, cuts: tuple[Cut, ...]) -> Array:
        """How many nodes of each class a pipeline takes."""
        kinds = [self.owners[way] for way, _, _ in cuts]
        return np.bincount(kinds, minlength=len(self.limits.counts)).astype(float)

    def priced(self, real: bool = False) -> Priced:
        """Fractions of pipelines at the least cost; ``real`` leaves out those that reuse nodes.

        A replica may stay out at a cost far above that of any pipeline, so there is an answer.
        """
        columns = self._real() if real else list(self.known.values())
        if not columns:
            return Priced(math.inf, self.limits.none(), [])
        costs = np.array([one.cost for one in columns])
        dear = costs.max() + 2 * np.abs(costs).max()
        uses = self.limits.taken(np.array([one.used for one in columns]).T)
        solved = linprog(
            np.append(costs, dear),
            A_ub=np.hstack([uses, np.zeros((len(uses), 1))]),
            b_ub=self.limits.all,
            A_eq=np.ones((1, len(columns) + 1)),
            b_eq=[self.replicas],
            method="highs",
        )
        prices: Array = np.maximum(0.0, -solved.ineqlin.marginals)
        often = np.argsort(-solved.x[:-1], kind="stable")
        picked = [columns[at].cuts for at in often if solved.x[at] > _NONE]
        return Priced(float(solved.fun), prices, picked)

    def chosen(self) -> list[tuple[Cut, ...]] | None:
        """The cheapest pipelines that keep all limits; None where none are known to do together."""
        columns = self._real()
        if not columns:
            return None
        uses = self.limits.taken(np.array([one.used for one in columns]).T)
        rows = [LinearConstraint(uses, -np.inf, self.limits.all)]
        rows.append(LinearConstraint(np.ones((1, len(columns))), self.replicas, self.replicas))
        solved = milp(
            [one.cost for one in columns],
            constraints=rows,
            integrality=np.ones(len(columns)),
            bounds=Bounds(0, self.replicas),
            options={"node_limit": _BRANCHES},
        )
        if solved.x is None:
            return None
        picked: list[tuple[Cut, ...]] = []
        for often, one in zip(np.rint(solved.x).astype(int), columns, strict=True):
            picked += [one.cuts] * int(often)
        return picked

    def _real(self) -> list[Column]:
        """Pipelines that use no node twice, and keep the other limits."""
        return [one for one in self.known.values() if self.limits.kept(one.used)]
