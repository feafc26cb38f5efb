"""Track: how a job gets from place to place, nothing else being on the way but earlier jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.core.schedule import Job
from planner.sim.network import Latency, Wire
from planner.sim.pace import Load, Pace
from planner.sim.served import Served


@dataclass(slots=True, eq=False)
class Flight:
    """A job under way; one that just decodes may go again and again."""

    job: Job[Served]
    load: Load
    ready_s: float = 0.0
    """When the coordinator has sent it."""
    ends_s: float = 0.0
    done_s: Sequence[float] = ()
    """By place: when the place is free for the next."""
    last_s: Sequence[float] = ()
    """By wire that varies: when it arrived."""
    drawn_s: Sequence[float] = ()
    """Latencies of the wires that vary."""
    ahead: Sequence[Flight] = ()
    """Earlier chunks of its prompt, which go no further than the last stage."""

    def came_s(self, pace: Pace) -> list[float]:
        """By place: when it gets there, and then when it is back."""
        passed = zip(pace.after_s, pace.draws, self.done_s, self.last_s, strict=True)
        left_s = [
            done_s + after_s if draw is None else last_s for after_s, draw, done_s, last_s in passed
        ]
        return [self.ready_s, *left_s]


@dataclass(slots=True)
class Track:
    """The places of a pipeline in the order in which its jobs meet them."""

    pace: Pace
    free_s: list[float] = field(init=False)
    """By place: until when it is taken."""
    last_s: list[float] = field(init=False)
    """By wire that varies: when the job before arrived, which none overtakes."""
    beyond: Sequence[tuple[int, float, Latency | None]] = field(init=False)
    """By place: its number, what is on the way after it, and what is drawn."""
    inward: Sequence[tuple[int, float, Latency | None]] = field(init=False)
    """Of these, the places up to the last stage."""

    def __post_init__(self) -> None:
        places = self.pace.places
        self.beyond = tuple(
            zip(range(len(places)), self.pace.after_s, self.pace.draws, strict=True)
        )
        self.inward = self.beyond[: self.pace.stops[-1] + 1]
        self.free_s = [place.server.free_s for place in places]
        self.last_s = [place.last_s if isinstance(place, Wire) else 0.0 for place in places]

    def fly(self, flight: Flight, ready_s: float) -> None:
        """Takes a job through all places, from when the coordinator has sent it."""
        free_s, last_s, taken_s = self.free_s, self.last_s, flight.load.taken_s
        at_s, drawn_s = ready_s, []
        for index, after_s, draw in self.inward if flight.load.silent else self.beyond:
            until_s = free_s[index]
            at_s = free_s[index] = (until_s if until_s > at_s else at_s) + taken_s[index]
            at_s += after_s
            if draw is not None:
                unused = draw.unused
                latency_s = unused.popleft() if unused else draw()
                drawn_s.append(latency_s)
                at_s += latency_s
                if last_s[index] > at_s:
                    at_s = last_s[index]
                last_s[index] = at_s
        flight.ready_s, flight.ends_s, flight.drawn_s = ready_s, at_s, drawn_s
        flight.done_s, flight.last_s = free_s[:], last_s[:]

    def book(self, flight: Flight, now_s: float) -> list[tuple[Latency, float]]:
        """Puts a job on the accounts of the places that it has come to; draws it did not need."""
        drawn_s, unused, came_s = iter(flight.drawn_s), [], flight.came_s(self.pace)
        ends = self.pace.ends(flight.load)
        for index, place in enumerate(self.pace.places[:ends]):
            if came_s[index] <= now_s:
                place.server.free_s = flight.done_s[index]
                place.server.promised_s += flight.load.taken_s[index]
        for hop in self.pace.hops:
            if hop.place >= ends:
                break
            latency_s = next(drawn_s) if hop.wire.latency_s else 0.0
            if came_s[hop.place] <= now_s:
                hop.wire.sent_bytes += self.pace.message_bytes(hop, flight.load)
                hop.wire.last_s = came_s[hop.place + 1]
            elif hop.wire.latency_s:
                unused.append((hop.wire.latency_s, latency_s))
        return unused
