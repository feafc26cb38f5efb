"""Memory: which nodes a chain remembers to have used, and where it does.

A chain that remembers all its nodes uses none twice, but there are too many sets of nodes to tell
apart. Here each class remembers only some others, its neighbours: coming to a node, a chain forgets
what the node does not remember (ng-routes: Baldacci, Mingozzi and Roberti 2011). Neighbourhoods
start empty and grow along the cycles of the chains that were found (Roberti and Mingozzi 2014).

A *state* is a way of the last stage and the neighbours of its class that may have been used so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.plan.costs import Kinds
from planner.plan.ways import Cut


@dataclass(frozen=True)
class States:
    """The states of chains, those of a way next to each other."""

    ways: Kinds
    """[state] -> way."""
    full: Kinds
    """[way] -> its state where every neighbour may have been used."""
    marked: Kinds
    """Ways whose class remembers or is remembered, from which states are reached one by one."""
    before: Kinds
    """[marked, state] -> the state from which it is reached; one past the last where it is not."""


@dataclass(eq=False)
class Memory:
    """What chains remember."""

    owners: Kinds
    """[way] -> class."""
    single: NDArray[np.bool_]
    """[class]: whether it is a single node, which may be used once."""
    most: int
    """Neighbours of a class at most."""
    near: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Class -> its neighbours."""

    @property
    def deepest(self) -> int:
        """Most neighbours that a class has."""
        return max(map(len, self.near.values()), default=0)

    def forbids(self, cuts: Sequence[Cut]) -> bool:
        """Whether a pipeline uses a class again which it still remembers."""
        return any(self._remembered(cycle) for cycle in self._cycles(cuts))

    def learn(self, cuts: Sequence[Cut]) -> bool:
        """Whether the shortest cycle of a pipeline that there is room to remember is forbidden."""
        for cycle in sorted(self._cycles(cuts), key=len):
            first, inner = cycle[0], cycle[1:]
            lacking = {kind for kind in inner if first not in self.near.get(kind, ())}
            if all(len(self.near.get(kind, ())) < self.most for kind in lacking):
                for kind in lacking:
                    self.near[kind] = (*self.near.get(kind, ()), first)
                self.__dict__.pop("states", None)
                return True
        return False

    def _cycles(self, cuts: Sequence[Cut]) -> list[list[int]]:
        """Classes from each use of a class up to where it is used again."""
        kinds, found, last = [int(self.owners[way]) for way, *_ in cuts], [], dict[int, int]()
        for place, kind in enumerate(kinds):
            if kind in last and self.single[kind]:
                found.append(kinds[last[kind] : place])
            last[kind] = place
        return found

    def _remembered(self, cycle: Sequence[int]) -> bool:
        return all(cycle[0] in self.near.get(kind, ()) for kind in cycle[1:])

    @cached_property
    def states(self) -> States:
        """All states, and how they follow each other."""
        near = [self.near.get(int(kind), ()) for kind in self.owners]
        sizes = np.array([1 << len(kinds) for kinds in near])
        starts = np.concatenate(([0], np.cumsum(sizes)))
        ways = np.repeat(np.arange(len(near)), sizes)
        noted = {kind for kinds in near for kind in kinds} | self.near.keys()
        marked = np.flatnonzero(np.isin(self.owners, list(noted)))
        # [class, state]: whether a chain that comes to the state may have used the class
        kinds, last = self.owners[ways], np.array(sorted(noted), dtype=np.int64)
        row = np.full(len(self.single) + 1, len(noted))
        row[last] = np.arange(len(noted))
        may = np.ones((len(noted) + 1, len(ways)), dtype=np.int64)
        allowed = np.arange(len(ways)) - starts[ways]
        for way in np.flatnonzero(sizes > 1):
            here = slice(starts[way], starts[way + 1])
            for bit, kind in enumerate(near[way]):
                may[row[kind], here] = (allowed[here] >> bit) & 1
        barred = may[row[self.owners[marked]]] == 0
        may[row[kinds], np.arange(len(ways))] = 0
        before = np.repeat(starts[marked, None], len(ways), axis=1)
        for source, place in enumerate(marked):
            for bit, kind in enumerate(near[place]):
                before[source] += may[row[kind]] << bit
        before[barred] = starts[-1]
        return States(ways, starts[1:] - 1, marked, before)
