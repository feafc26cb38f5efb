"""Capacity: the largest load under which a plan still meets its must-haves, by simulation.

Every load is simulated under the same seeds. A load meets the must-haves if the means over the
replications do, which is what ``planner simulate`` says of it. Loads at which it is uncertain make
the interval: the test whether a metric breaks its bound, inverted. It runs from the largest load
whose confidence intervals lie within all bounds to the largest whose intervals reach into them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from planner.core.metrics import Metrics
from planner.core.requirements import BOUNDED, Miss, MustHave
from planner.sim.replicate import Replications

_EASED = ("usd_per_million_output_tokens", "output_throughput", "request_goodput")
"""Bounds that more load brings nearer; they cannot say how much is too much."""
_NEAR = 1.01
"""Ratio of two loads between which nothing is looked for."""
_FAR = 1024.0
"""How many times as much, and as little, as the workload's own load is looked at."""

Unit = Literal["requests_per_s", "users"]
"""Of loads: users of a closed loop, or requests that come at times of their own."""

Verdict = Callable[[MustHave, Replications], bool]
Evaluate = Callable[[float], Replications]


@dataclass(frozen=True, slots=True)
class Tried:
    """A load that was simulated, and the bounds it breaks."""

    load: float
    missed: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a plan can take."""

    unit: Unit
    load: float
    """0 where not even the least load that was tried meets the must-haves."""
    interval: tuple[float, float] | None
    """Loads at which the replications cannot tell; None for a single replication."""
    limited: bool
    """Whether more load breaks a must-have, as far as was looked."""
    tried: tuple[Tried, ...]
    """In order of load."""
    seats: int | None = None
    """Requests that the plan serves at once; more users wait for a seat."""

    @property
    def at(self) -> Tried:
        """What was tried of this load; of the least one where none will do."""
        return next((one for one in self.tried if one.load == self.load), self.tried[0])

    @property
    def beyond(self) -> Tried | None:
        """The least load that was tried and is too much."""
        return next((one for one in self.tried if one.load > self.load and one.missed), None)


def burdened(must: MustHave) -> list[str]:
    """The metrics with a bound that load can break."""
    bounded = must.missed(Metrics())
    return [miss.metric for miss in bounded if miss.metric not in _EASED]


def capacity(must: MustHave, start: float, unit: Unit, evaluate: Evaluate) -> Capacity:
    """The largest load below the first one that is too much, to 1 % or to a user.

    ``evaluate`` simulates a load; the search begins at ``start`` and looks from a 1024th of it to
    1024 times as much. ``must`` needs a bound that load can break.
    """
    search = _Search(must, start, evaluate, unit == "users")
    search.run(start)
    load, above = search.edge(_meets)
    interval = None
    if search.runs[start].confidence:
        interval = search.edge(_surely)[0], search.edge(_perhaps)[0]
    tried = tuple(
        Tried(load, tuple(_missed(must, run.metrics))) for load, run in sorted(search.runs.items())
    )
    return Capacity(unit, load, interval, above < math.inf, tried)


@dataclass(slots=True)
class _Search:
    """Loads that were simulated, their results left out, and which one to try next."""

    must: MustHave
    start: float
    evaluate: Evaluate
    whole: bool
    runs: dict[float, Replications] = field(default_factory=dict)

    def run(self, load: float) -> None:
        """Simulates a load."""
        self.runs[load] = replace(self.evaluate(load), results=[])

    def edge(self, verdict: Verdict) -> tuple[float, float]:
        """The largest load that will do and the least that will not; 0 and infinity for none."""
        while True:
            found = [(load, verdict(self.must, run)) for load, run in sorted(self.runs.items())]
            above = next((load for load, well in found if not well), math.inf)
            below = max((load for load, well in found if well and load < above), default=0.0)
            load = self._between(below, above)
            if load is None:
                return below, above
            self.run(load)

    def _between(self, below: float, above: float) -> float | None:
        """The load to try next; None where the edge is known well enough."""
        if above == math.inf:
            return below * 2 if below * 2 <= self.start * _FAR else None
        if below == 0:
            least = 1.0 if self.whole else self.start / _FAR
            return least if least < above else None
        if above / below <= _NEAR or (self.whole and above - below <= 1):
            return None
        middle = math.sqrt(below * above)
        return min(max(below + 1, float(round(middle))), above - 1) if self.whole else middle


def _missed(must: MustHave, metrics: Metrics) -> Iterator[Miss]:
    return (miss for miss in must.missed(metrics) if miss.metric not in _EASED)


def _meets(must: MustHave, run: Replications) -> bool:
    return not any(_missed(must, run.metrics))


def _surely(must: MustHave, run: Replications) -> bool:
    return not any(_missed(must, _at_end(run, 1)))


def _perhaps(must: MustHave, run: Replications) -> bool:
    return not any(_missed(must, _at_end(run, -1)))


def _at_end(run: Replications, sign: int) -> Metrics:
    """The ends of all intervals that are worse (1) or better (-1)."""
    ends = {
        name: high if sign * worse > 0 else low
        for name, worse in BOUNDED.items()
        if name in run.confidence
        for low, high in (run.confidence[name],)
    }
    return run.metrics.model_copy(update=ends)
