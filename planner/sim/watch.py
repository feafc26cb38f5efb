"""Watch: looks at every job at every place while a run goes on; the numbers are the invariants'."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.sim.network import Wire, Worker
from planner.sim.pace import Pace
from planner.sim.track import Flight

_SLACK_S = 1e-9
_MOST = 20
"""Broken invariants that are told of; more of them say nothing new."""


@dataclass(slots=True)
class Watch:
    """The last job at each place, and what was wrong with those before."""

    broken: list[str] = field(default_factory=list)
    came_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    clock_s: dict[int, float] = field(default_factory=dict)
    """By pipeline."""

    def tick(self, pipeline: int, now_s: float) -> None:
        """Something happens in a pipeline."""
        if now_s < self.clock_s.get(pipeline, 0.0):
            self._tell(f"2: the clock of pipeline {pipeline} ran backwards")
        self.clock_s[pipeline] = now_s

    def see(self, name: str, came_s: float, began_s: float, ended_s: float) -> None:
        """A job comes to a place, node or ``src -> dst``, begins there, and leaves it."""
        if began_s < came_s - _SLACK_S or ended_s < began_s - _SLACK_S:
            self._tell(f"3: a job left {name} before it came")
        before_s = self.ended_s.get(name, 0.0) - _SLACK_S
        if came_s < self.came_s.get(name, 0.0) - _SLACK_S or ended_s < before_s:
            self._tell(f"7: {name} served out of turn")
        if "->" not in name and began_s < before_s:
            self._tell(f"8: {name} computed two jobs at once")
        self.came_s[name], self.ended_s[name] = came_s, ended_s

    def see_flight(self, pace: Pace, flight: Flight, until_s: float) -> None:
        """A job passes the places that it comes to by ``until_s``."""
        came_s = flight.came_s(pace)
        for index, place in enumerate(pace.places[: pace.ends(flight.load)]):
            if came_s[index] <= until_s:
                began_s = flight.done_s[index] - flight.load.taken_s[index]
                self.see(_name(place, index), came_s[index], began_s, came_s[index + 1])

    def see_row(self, pace: Pace, began_s: float, ended_s: float) -> None:
        """Steps follow each other, and nobody else is anywhere on the way."""
        for index, place in enumerate(pace.places):
            self.see(_name(place, index), began_s, began_s, ended_s)

    def lose(self, node: str, now_s: float) -> None:
        """What a node computes is dropped."""
        self.ended_s[node] = min(now_s, self.ended_s.get(node, now_s))

    def _tell(self, said: str) -> None:
        if len(self.broken) < _MOST:
            self.broken.append(said)


def _name(place: Wire | Worker, index: int) -> str:
    """A wire may be passed on the way there and on the way back, by jobs that do not meet."""
    if isinstance(place, Worker):
        return place.stage.node
    return f"{place.src} -> {place.dst} (place {index})"
