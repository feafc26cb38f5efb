"""Hops: the cheapest last hop to every way, lines that are alike being looked at once.

A large cluster has few kinds of lines: nodes of one region with one uplink reach everybody alike.
What came cheapest to a group of them serves all, save that a node does not hop to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.plan.costs import Array, Join, Kinds
from planner.plan.ways import Way

_FEW = 0.6
"""Groups of alike lines are looked at together where there are fewer than this share of ways."""
_DENSE = 64
"""Ways up to which every pair of them is looked at, which takes less time than finding groups."""


@dataclass(frozen=True)
class Hops:
    """Lengths of hops between ways, by groups."""

    between: Array
    """[group, group]; infinite without a line."""
    groups: Kinds
    """[way] -> group."""
    order: Kinds
    """Ways, those of a group next to each other."""
    starts: Kinds
    """Where each group starts in that order."""
    lone: NDArray[np.bool_]
    """[way]: whether it stands for one node in a group of several."""

    @classmethod
    def of(cls, hop: Array, groups: Kinds, owners: Kinds) -> Hops:
        """The hops of a matrix [way, way]; its diagonal is infinite for single nodes.

        Ways of one class lie in different groups.
        """
        order = np.argsort(groups, kind="stable")
        counts = np.bincount(groups)
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        first = order[starts]
        second = order[np.minimum(starts + 1, starts + counts - 1)]
        same = owners[first][:, None] == owners[first][None, :]
        between = np.where(same, hop[np.ix_(first, second)], hop[np.ix_(first, first)])
        lone = np.isinf(np.diag(hop)) & (counts[groups] > 1)
        return cls(between, groups, order, starts, lone)

    @cached_property
    def dense(self) -> Array:
        """[way, way] with a single node infinitely far from itself."""
        hop: Array = self.between[self.groups][:, self.groups]
        single = np.flatnonzero(self.lone)
        hop[single, single] = np.inf
        return hop

    @cached_property
    def members(self) -> Kinds:
        """[group, place] -> way; the number of ways where a group has fewer."""
        counts = np.bincount(self.groups)
        found = np.full((len(counts), max(2, counts.max())), len(self.groups))
        places = np.arange(len(self.order)) - self.starts[self.groups[self.order]]
        found[self.groups[self.order], places] = self.order
        return found

    def arrive(self, here: Array, join: Join = np.add) -> Array:
        """[row, way]: cost of arriving; ``here`` is what a chain that ends at each way costs.

        A last column of ``here`` is infinite: it stands for where no chain comes from.
        """
        if len(self.groups) <= _DENSE:
            direct: Array = join(here[:, :-1, None], self.dense).min(axis=1)
            return direct
        if len(self.starts) == len(self.order):
            direct = join(here.take(self.order, axis=1)[:, :, None], self.between).min(axis=1)
            return direct.take(self.groups, axis=1)
        two = here.take(self.members, axis=1)
        two.partition(1, axis=2)
        best = two[:, :, 0]
        via = join(best[:, :, None], self.between)
        arrived: Array = via.min(axis=1).take(self.groups, axis=1)
        if not self.lone.any():
            return arrived
        # whoever is the best of its own group comes from the second best or from elsewhere
        inner = np.arange(len(self.between))
        via[:, inner, inner] = join(two[:, :, 1], self.between.diagonal())
        others = via.min(axis=1).take(self.groups, axis=1)
        first = (here[:, :-1] == best.take(self.groups, axis=1)) & self.lone
        np.copyto(arrived, others, where=first)
        return arrived

    def leaving(self, sources: Kinds) -> Array:
        """[source, way]: what it takes from some ways to all."""
        hop: Array = self.between[self.groups[sources]][:, self.groups]
        rows = np.flatnonzero(self.lone[sources])
        hop[rows, sources[rows]] = np.inf
        return hop

    def entering(self, way: int) -> Array:
        """[way]: what it takes from all ways to one."""
        hop: Array = self.between[self.groups, self.groups[way]]
        if self.lone[way]:
            hop[way] = np.inf
        return hop


def alike(ways: Sequence[Way], lines: Kinds) -> Kinds:
    """[way] -> group of ways with alike lines, no two of one class in it.

    ``lines`` are the groups of their classes. Where groups are nearly as many as ways, each way is
    one of its own: they are not worth looking at together.
    """
    uses = [(way.quant.id, way.split) for way in ways]
    number = {use: index for index, use in enumerate(dict.fromkeys(uses))}
    every = lines * len(number) + np.array([number[use] for use in uses])
    groups: Kinds = np.unique(every, return_inverse=True)[1]
    few = groups.max() < _FEW * len(groups)
    return groups if few else np.arange(len(groups))
