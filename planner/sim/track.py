"""Track: how a job gets from place to place, nothing else being on the way but earlier jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from planner.core.schedule import Job
from planner.sim.network import Latency, Wire, Worker
from planner.sim.pace import Piece
from planner.sim.served import Served


@dataclass(slots=True, eq=False)
class Flight:
    """A job under way, or a row of equal decode steps, one after the other."""

    job: Job[Served]
    piece: Piece
    context: float
    """Cached tokens of the first step."""
    began_s: float
    ready_s: float
    """When the coordinator has sent it."""
    ends_s: float
    rounds: int = 1
    is_row: bool = False
    drift_s: float = 0.0
    """Latencies that are drawn: what a step of a row takes more, on average over the row."""
    jitter_s: float = 0.0
    """Standard deviation of that in a single step."""
    came_s: Sequence[float] = ()
    """By place: when it gets there; of a single job only."""
    done_s: Sequence[float] = ()
    """By place: when the place is free for the next."""
    drawn_s: Sequence[float] = ()
    """Latencies of the wires that vary."""

    def after(self, rounds: int) -> float:
        """When so many steps of a row are over."""
        size = len(self.job.sequences)
        steps_s = self.piece.seconds(self.context, size, rounds)
        return self.began_s + steps_s + rounds * self.drift_s

    def cut(self, now_s: float, normal: Callable[[], float]) -> None:
        """Shortens a row to the first step that ends now or later.

        Latencies that were drawn for the whole row become those of its first steps: a random
        walk of which the end is known (a Brownian bridge), followed step by step around now.
        """
        before, self.rounds = self.rounds, self.rounds_until(now_s)
        if not self.jitter_s or self.rounds == before:
            self.ends_s = self.after(self.rounds)
            return
        bridge = math.sqrt(self.rounds * (before - self.rounds) / before)
        at_s = self.after(self.rounds) + self.jitter_s * bridge * normal()
        while at_s < now_s and self.rounds < before:
            self.rounds += 1
            at_s += self._step_s(self.rounds) + self.jitter_s * normal()
        while self.rounds > 1:
            earlier_s = at_s - self._step_s(self.rounds) - self.jitter_s * normal()
            if earlier_s < now_s:
                break
            at_s, self.rounds = earlier_s, self.rounds - 1
        self.ends_s = max(now_s, at_s)
        self.drift_s += (self.ends_s - self.after(self.rounds)) / self.rounds

    def _step_s(self, number: int) -> float:
        """Time of one step of a row, on average."""
        return self.after(number) - self.after(number - 1)

    def rounds_until(self, now_s: float) -> int:
        """Steps of a row until one ends now or later: the root of a quadratic, to the step."""
        piece = self.piece
        half = piece.growth_s * len(self.job.sequences) / 2
        step_s = piece.step_s + piece.growth_s * self.context - half + self.drift_s
        passed_s = now_s - self.began_s
        # half n^2 + step n = passed, in the form that does not cancel where half is small
        root = 2 * passed_s / (step_s + math.sqrt(step_s * step_s + 4 * half * passed_s))
        rounds = min(max(1, math.ceil(root)), self.rounds)
        while rounds > 1 and self.after(rounds - 1) >= now_s:
            rounds -= 1
        while rounds < self.rounds and self.after(rounds) < now_s:
            rounds += 1
        return rounds


@dataclass(slots=True)
class Track:
    """The places of a pipeline in the order in which its jobs meet them."""

    places: Sequence[Wire | Worker]
    free_s: list[float] = field(init=False)
    """By place: until when it is taken."""
    is_stage: list[bool] = field(init=False)
    last_s: list[float] = field(init=False)
    """By place: when the message before arrived at the far end of a wire."""

    def __post_init__(self) -> None:
        self.is_stage = [isinstance(place, Worker) for place in self.places]
        self.free_s = [place.server.free_s for place in self.places]
        self.last_s = [place.last_s if isinstance(place, Wire) else 0.0 for place in self.places]

    def fly(
        self, job: Job[Served], piece: Piece, context: float, now_s: float, ready_s: float
    ) -> Flight:
        """Takes a job through all places."""
        legs, free_s, last_s = piece.legs, self.free_s, self.last_s
        busy_s, after_s = legs.busy_s, legs.after_s
        stages_s = iter(piece.stages_s(context))
        at_s, drawn_s = ready_s, []
        came_s = [ready_s]
        for index, place in enumerate(self.places):
            began_s = free_s[index]
            if at_s > began_s:
                began_s = at_s
            if self.is_stage[index]:
                at_s = free_s[index] = began_s + next(stages_s)
            else:
                free_s[index] = at_s = began_s + busy_s[index]
                at_s += after_s[index]
                if place.latency_s is not None:  # type: ignore[union-attr]
                    drawn_s.append(place.latency_s())  # type: ignore[union-attr]
                    at_s += drawn_s[-1]
                at_s = last_s[index] = max(last_s[index], at_s)
            came_s.append(at_s)
        flight = Flight(job, piece, context, now_s, ready_s, at_s)
        flight.came_s, flight.done_s, flight.drawn_s = came_s, free_s[:], drawn_s
        return flight

    def book(self, flight: Flight, now_s: float) -> list[tuple[Latency, float]]:
        """Puts a job on the accounts of the places that it has come to; draws it did not need."""
        legs, stages_s = flight.piece.legs, iter(flight.piece.stages_s(flight.context))
        drawn_s = iter(flight.drawn_s)
        unused = []
        for index, place in enumerate(self.places):
            if flight.came_s[index] > now_s:
                if isinstance(place, Wire) and place.latency_s is not None:
                    unused.append((place.latency_s, next(drawn_s)))
                continue
            place.server.free_s = flight.done_s[index]
            if isinstance(place, Wire):
                place.server.promised_s += legs.busy_s[index]
                place.sent_bytes += legs.sent_bytes[index]
                place.last_s = flight.came_s[index + 1]
                if place.latency_s is not None:
                    next(drawn_s)
            else:
                place.server.promised_s += next(stages_s)
        return unused
