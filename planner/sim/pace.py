"""Pace: how long steps of a pipeline take at every place on their way.

At a given number of sequences, the time of a decode step is a function of the cached tokens that is
made of a few straight pieces: rooflines have kinks, sliding windows end. A piece is found once and
serves all steps on it. That it is straight is checked, not assumed: between the ends of the windows
times are convex, and a convex function that meets its chord in the middle is the chord.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.core.cost import Batch, transfer_time
from planner.core.cost.traversal import arrivals, coordinator_s, payloads_bytes
from planner.core.plan import Pipeline
from planner.core.problem import Problem
from planner.sim.network import Wire, Worker

_STRAIGHT = 1e-13
"""Relative distance from the chord that counts as none."""


@dataclass(slots=True)
class Legs:
    """What a kind of job finds at the places of its way, apart from the cached tokens."""

    own_s: float
    """The coordinator's time."""
    busy_s: tuple[float, ...]
    """By place: how long a wire is taken; 0 at stages."""
    after_s: tuple[float, ...]
    """By place: on the way and in software after that."""
    sent_bytes: tuple[float, ...]
    total_s: float
    """All of it, nothing else being in the way."""
    times: int = 0
    """Jobs of this kind that went all the way."""


@dataclass(slots=True)
class Piece:
    """Steps whose time grows evenly with the cached tokens."""

    legs: Legs
    low: float
    high: float
    """Fewest and most cached tokens this holds for."""
    base_s: tuple[float, ...]
    """By stage: time with no cached tokens, if the piece went on that far."""
    slope_s: tuple[float, ...]
    """By stage: time per cached token."""
    step_s: float
    """``base_s`` of all stages and everything else on the way."""
    growth_s: float
    times: int = 0
    """Steps that went all the way."""
    context: float = 0.0
    """Cached tokens of all of those."""

    def stages_s(self, context: float) -> list[float]:
        """Time at each stage (s)."""
        return [
            base + slope * context for base, slope in zip(self.base_s, self.slope_s, strict=True)
        ]

    def seconds(self, context: float, each: int, rounds: int) -> float:
        """Time of ``rounds`` steps that each add ``each`` cached tokens (s)."""
        grown = each * (rounds * (rounds - 1) // 2)
        return rounds * (self.step_s + self.growth_s * context) + self.growth_s * grown


@dataclass(slots=True)
class Pace:
    """The pipeline as it stands on its nodes: its places, and what steps take at them."""

    problem: Problem
    workers: Sequence[Worker]
    wires: Sequence[Wire]
    places: list[Wire | Worker] = field(default_factory=list)
    """Hops and stages in the order in which a job meets them."""
    stops: list[int] = field(default_factory=list)
    """Which places are stages."""
    known: dict[tuple[str, float, float], Legs] = field(default_factory=dict)
    prompts: dict[Batch, Piece] = field(default_factory=dict)
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    """By number of sequences."""
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(stages=tuple(worker.stage for worker in self.workers))
        ends_at_stage = arrivals(self.problem, self.pipeline)
        for hop, wire in enumerate(self.wires):
            self.places.append(wire)
            if hop in ends_at_stage:
                self.stops.append(len(self.places))
                self.places.append(self.workers[ends_at_stage.index(hop)])

    @property
    def jitters(self) -> bool:
        """Whether a hop takes a time that is drawn."""
        return any(wire.latency_s is not None for wire in self.wires)

    def legs(self, batch: Batch) -> Legs:
        """What a job of a batch finds on its way."""
        key = (batch.phase, batch.new_tokens, batch.sampled_tokens)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._legs(batch)
        return found

    def _legs(self, batch: Batch) -> Legs:
        problem, payloads = self.problem, iter(payloads_bytes(self.problem, self.pipeline, batch))
        busy: list[float] = []
        after: list[float] = []
        sent: list[float] = []
        for place in self.places:
            if isinstance(place, Worker):
                moved = (0.0, 0.0, 0.0)
            else:
                payload = next(payloads)
                move = transfer_time(place.link, payload, problem.engine, batch.phase)
                away_s = 0.0 if place.latency_s is not None else move.propagate_s
                moved = (move.busy_s, away_s + move.relay_s, payload + problem.engine.frame_bytes)
            for column, value in zip((busy, after, sent), moved, strict=True):
                column.append(value)
        own_s = coordinator_s(problem, batch)
        total_s = own_s + sum(busy) + sum(after)
        return Legs(own_s, tuple(busy), tuple(after), tuple(sent), total_s)

    def prompt(self, batch: Batch) -> Piece:
        """A job whose time depends on nothing else."""
        found = self.prompts.get(batch)
        if found is None:
            stages = tuple(worker.step_s(batch) for worker in self.workers)
            legs = self.legs(batch)
            nothing = (0.0,) * len(stages)
            step_s = sum(stages) + legs.total_s
            found = Piece(legs, 0, 0, stages, nothing, step_s, 0.0)
            self.prompts[batch] = found
        return found

    def decode(self, sequences: int, context: int) -> Piece:
        """The piece that a decode step with that many cached tokens lies on."""
        known = self.pieces.setdefault(sequences, [])
        for piece in known:
            if piece.low <= context <= piece.high:
                return piece
        piece = self._piece(sequences, context)
        known.insert(0, piece)
        return piece

    def _piece(self, sequences: int, context: int) -> Piece:
        low, high = self._between_windows(sequences, context)
        ends = self._stages_s(sequences, low), self._stages_s(sequences, high)
        while high > low and not self._straight(sequences, low, high, *ends):
            middle = (low + high) // 2
            if context <= middle:
                high, ends = middle, (ends[0], self._stages_s(sequences, middle))
            else:
                low, ends = middle + 1, (self._stages_s(sequences, middle + 1), ends[1])
        slope = tuple((end - start) / max(1, high - low) for start, end in zip(*ends, strict=True))
        base = tuple(start - by * low for start, by in zip(ends[0], slope, strict=True))
        legs = self.legs(Batch.decode(sequences, context))
        return Piece(legs, low, high, base, slope, sum(base) + legs.total_s, sum(slope))

    def _between_windows(self, sequences: int, context: int) -> tuple[int, int]:
        """The range of cached tokens around ``context`` in which no sliding window ends."""
        low, high = 0, max(context, sequences * self.problem.model.max_position_embeddings)
        for window in {layer.kv_window for layer in self.problem.model.layers} - {None}:
            assert window is not None
            for edge in (sequences * (window - 1), sequences * window):
                if context >= edge:
                    low = max(low, edge)
                else:
                    high = min(high, edge)
        return low, high

    def _straight(
        self, sequences: int, low: int, high: int, start: list[float], end: list[float]
    ) -> bool:
        for share in (0.5, 0.25, 0.75):
            inside = low + int((high - low) * share)
            real = (inside - low) / (high - low)
            for a, b, time in zip(start, end, self._stages_s(sequences, inside), strict=True):
                if abs(a + (b - a) * real - time) > _STRAIGHT * time:
                    return False
        return True

    def _stages_s(self, sequences: int, context: int) -> list[float]:
        batch = Batch.decode(sequences, context)
        return [worker.time_s(batch) for worker in self.workers]

    def book(self) -> None:
        """Puts the jobs that went all the way on the accounts of the places, once."""
        for piece in (*self.prompts.values(), *(p for ps in self.pieces.values() for p in ps)):
            for stop, base, slope in zip(self.stops, piece.base_s, piece.slope_s, strict=True):
                spent_s = base * piece.times + slope * piece.context
                self.places[stop].server.promised_s += spent_s
            piece.times, piece.context = 0, 0.0
        for legs in self.known.values():
            for place, busy_s, sent in zip(self.places, legs.busy_s, legs.sent_bytes, strict=True):
                if isinstance(place, Wire):
                    place.server.promised_s += busy_s * legs.times
                    place.sent_bytes += sent * legs.times
            legs.times = 0
