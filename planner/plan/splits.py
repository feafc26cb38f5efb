"""Splits: so many disjoint sets of nodes, in the order of what they cost together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.plan.costs import Array, Join, Kinds
from planner.plan.tables import State


@dataclass(frozen=True)
class Splits:
    """Ways to take ``parts`` sets from ``most`` nodes of each class."""

    costs: Mapping[State, float]
    """What a set costs; one that is not here cannot be taken."""
    parts: int
    most: State
    maximum: bool = False
    """Whether a split costs what its dearest set does, rather than their sum."""

    def cheapest(
        self, allowed: Callable[[State], bool], usable: Callable[[tuple[State, ...]], bool]
    ) -> tuple[float, tuple[State, ...]]:
        """The cheapest usable split whose nodes are allowed together; infinite without one."""
        least, found = math.inf, tuple[State, ...]()
        totals = self._layers[-1]
        for flat in np.argsort(totals, axis=None, kind="stable"):
            union = tuple(int(i) for i in np.unravel_index(int(flat), totals.shape))
            if not totals[union] < least:
                break
            if allowed(union):
                for cost, split in self._of(union):
                    if cost >= least:
                        break
                    if usable(split):
                        least, found = cost, split
                        break
        return least, found

    @cached_property
    def _order(self) -> list[State]:
        return sorted(state for state, cost in self.costs.items() if math.isfinite(cost))

    @cached_property
    def _states(self) -> Kinds:
        """[set, class], in their order."""
        return np.array(self._order, dtype=np.int64).reshape(-1, len(self.most))

    @cached_property
    def _each(self) -> Array:
        """[set]: what it costs."""
        return np.array([self.costs[state] for state in self._order])

    @property
    def _join(self) -> Join:
        """How costs of sets combine."""
        return np.maximum if self.maximum else np.add

    @cached_property
    def _none(self) -> float:
        """What no sets cost together."""
        return -math.inf if self.maximum else 0.0

    @cached_property
    def _layers(self) -> list[Array]:
        """By number of sets: the least that makes up each union of so many."""
        shape = tuple(count + 1 for count in self.most)
        start = np.full(shape, np.inf)
        start[(0,) * len(shape)] = self._none
        layers = [start]
        for _ in range(self.parts):
            before, after = layers[-1], np.full(shape, np.inf)
            for state in self._order:
                to = tuple(slice(used, None) for used in state)
                away = tuple(slice(0, size - used) for size, used in zip(shape, state, strict=True))
                after[to] = np.minimum(after[to], self._join(before[away], self.costs[state]))
            layers.append(after)
        return layers

    def _of(self, union: State) -> Iterator[tuple[float, tuple[State, ...]]]:
        """The splits of one union, cheapest first, each in one order of its sets.

        Best first, by what the sets that are taken cost with the least that the rest can; that
        bound is exact but for the order of sets, so nothing that comes later is cheaper.
        """
        first = tuple[int, ...]()
        queue = [(float(self._layers[self.parts][union]), 0, first, union, self._none)]
        while queue:
            cost, taken, picks, rest, paid = heapq.heappop(queue)
            if -taken == self.parts:
                yield cost, tuple(self._order[pick] for pick in picks)
                continue
            start = picks[-1] if picks else 0
            after = np.array(rest) - self._states[start:]
            fits = np.flatnonzero((after >= 0).all(axis=1))
            least = self._layers[self.parts + taken - 1][tuple(after[fits].T)]
            fits, least = fits[least < math.inf], least[least < math.inf]
            now = self._join(paid, self._each[start + fits])
            bound = np.maximum(cost, self._join(now, least))
            found = bound.tolist(), (start + fits).tolist(), after[fits].tolist(), now.tolist()
            for value, pick, others, spent in zip(*found, strict=True):
                heapq.heappush(queue, (value, taken - 1, (*picks, pick), tuple(others), spent))
