"""Presence: which nodes are there, who says before that it goes, and who is still starting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from planner.core.problem import Problem
from planner.sim.churn import Outage, delays, outages


class Clock(Protocol):
    """Of a run."""

    def now(self) -> float:
        """The time (s)."""

    def at(self, when_s: float, act: Callable[[], None], priority: int = 1) -> None:
        """Has something happen at a moment."""


class Concerned(Protocol):
    """Who does something about it."""

    def warned(self, name: str) -> None:
        """A node has said that it will go."""

    def gone(self, name: str, announced: bool) -> None:
        """A node that was there is gone."""

    def back(self, name: str) -> None:
        """A node is there again."""


@dataclass(slots=True)
class Presence:
    """The nodes of a run as they go and come."""

    problem: Problem
    seed: int
    clock: Clock
    there: dict[str, bool] = field(default_factory=dict)
    """Whether each node can be used."""
    leaving: set[str] = field(default_factory=set)
    """Nodes that have said that they will go."""
    counts: Counter[str] = field(default_factory=Counter)
    _gone_s: dict[str, float] = field(default_factory=dict)
    _away_s: dict[str, float] = field(default_factory=dict)
    _rented_s: dict[str, float] = field(default_factory=dict)
    """Nodes that start, since when."""
    _starting_s: dict[str, float] = field(default_factory=dict)

    def watch(self, name: str, concerned: Concerned) -> None:
        """Lets a node go and come from now on."""
        self.there[name] = True
        self._away_s[name] = self._starting_s[name] = 0.0
        cluster = self.problem.cluster
        coming = outages(cluster, name, self.seed)
        waits = delays(cluster, name, self.seed)
        self._expect(name, coming, waits, concerned)

    def away(self, until_s: float) -> dict[str, float]:
        """How long each node was away, and cost nothing (s)."""
        still = {name: until_s - gone_s for name, gone_s in self._gone_s.items()}
        return {name: self._away_s[name] + still.get(name, 0.0) for name in self.there}

    def starting(self, until_s: float) -> dict[str, float]:
        """How long each node was paid for and could not be used yet (s)."""
        still = {name: until_s - rented_s for name, rented_s in self._rented_s.items()}
        return {name: self._starting_s[name] + still.get(name, 0.0) for name in self.there}

    def _expect(
        self,
        name: str,
        coming: Iterator[Outage],
        waits: Iterator[tuple[int, float]],
        concerned: Concerned,
    ) -> None:
        outage = next(coming, None)
        if outage is None:
            return
        gone_s, back_s = outage

        def warn() -> None:
            self.leaving.add(name)
            self.counts["notices"] += 1
            if self.there[name]:
                concerned.warned(name)

        def go() -> None:
            announced, was_there = name in self.leaving, self.there[name]
            self.leaving.discard(name)
            self.there[name] = False
            self._gone_s[name] = gone_s
            if name in self._rented_s:
                self._starting_s[name] += gone_s - self._rented_s.pop(name)
            if was_there:
                concerned.gone(name, announced)
            self.clock.at(back_s, back)

        def back() -> None:
            self._away_s[name] += back_s - self._gone_s.pop(name)
            duds, wait_s = next(waits)
            self.counts["duds"] += duds
            if wait_s:
                self._rented_s[name] = back_s
                self.clock.at(back_s + wait_s, start)
            else:
                start()
            self._expect(name, coming, waits, concerned)

        def start() -> None:
            rented_s = self._rented_s.get(name, back_s)
            if rented_s != back_s or name in self._gone_s:
                return  # it went before it was ready
            if name in self._rented_s:
                self._starting_s[name] += self.clock.now() - self._rented_s.pop(name)
            self.there[name] = True
            concerned.back(name)

        churn = self.problem.cluster.churn_of(name)
        if churn is not None and churn.notice_s:
            self.clock.at(max(self.clock.now(), gone_s - churn.notice_s), warn)
        self.clock.at(gone_s, go)
