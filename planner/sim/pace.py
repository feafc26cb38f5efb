"""Pace: how long steps of a pipeline take at every place on their way.

At a given number of sequences, the time of a decode step is a function of the cached tokens that is
made of a few straight pieces: rooflines have kinks, sliding windows end. A piece is found once and
serves all steps on it. That it is straight is checked, not assumed: between the ends of the windows
times are convex, and a convex function that meets its chord in the middle is the chord.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from planner.core.cost import Batch, transfer_time
from planner.core.cost.batch import Phase
from planner.core.cost.joint import Terms
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
    moves: dict[tuple[int, float, str], tuple[float, float, float]] = field(default_factory=dict)
    """By place, payload and phase: how long a wire is taken, the time after that, bytes."""
    prompts: dict[int, Piece] = field(default_factory=dict)
    """By tokens of a whole prompt."""
    lonely: dict[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    """By tokens of a piece of a prompt and those before: times at the stages."""
    pieces: dict[tuple[int, bool], list[Piece]] = field(default_factory=dict)
    """By number of sequences, and whether a piece of a prompt is beside them."""
    payloads: list[tuple[float, float]] = field(default_factory=list)
    """By place: bytes on a wire per new and per sampled token."""
    terms: list[Terms] = field(init=False)
    once_s: list[float] = field(init=False)
    """By stage: time of steps that are not among the pieces."""
    latency_s: float = field(init=False)
    """Mean of the latencies that are drawn, over all hops."""
    jitter_s: float = field(init=False)
    """Standard deviation of their sum."""
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(stages=tuple(worker.stage for worker in self.workers))
        ends_at_stage = arrivals(self.problem, self.pipeline)
        for hop, wire in enumerate(self.wires):
            self.places.append(wire)
            if hop in ends_at_stage:
                self.stops.append(len(self.places))
                self.places.append(self.workers[ends_at_stage.index(hop)])
        per_new = iter(payloads_bytes(self.problem, self.pipeline, Batch("prefill", 0, 1, 0)))
        per_sampled = iter(payloads_bytes(self.problem, self.pipeline, Batch("prefill", 1, 0, 0)))
        self.payloads = [
            (0.0, 0.0) if isinstance(place, Worker) else (next(per_new), next(per_sampled))
            for place in self.places
        ]
        self.terms = [worker.terms() for worker in self.workers]
        self.once_s = [0.0] * len(self.workers)
        drawn = [wire.latency_s.moments for wire in self.wires if wire.latency_s is not None]
        self.latency_s = sum(mean for mean, _ in drawn)
        self.jitter_s = math.sqrt(sum(variance for _, variance in drawn))

    def legs(self, batch: Batch, phase: Phase) -> Legs:
        """What a job that sends so much finds on its way."""
        key = (phase, batch.new_tokens, batch.sampled_tokens)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._legs(batch, phase)
        return found

    def _legs(self, batch: Batch, phase: Phase) -> Legs:
        new, sampled = batch.new_tokens, batch.sampled_tokens
        moves = [
            self._move(index, new * per_new + sampled * per_sampled, phase)
            for index, (per_new, per_sampled) in enumerate(self.payloads)
        ]
        busy, after, sent = zip(*moves, strict=True)
        own_s = coordinator_s(self.problem, batch)
        return Legs(own_s, busy, after, sent, own_s + sum(busy) + sum(after))

    def _move(self, index: int, payload: float, phase: Phase) -> tuple[float, float, float]:
        key = (index, payload, phase)
        found = self.moves.get(key)
        if found is None:
            wire, engine = self.places[index], self.problem.engine
            if isinstance(wire, Worker):
                return 0.0, 0.0, 0.0
            move = transfer_time(wire.link, payload, engine, phase)
            away_s = 0.0 if wire.latency_s is not None else move.propagate_s
            found = (move.busy_s, away_s + move.relay_s, payload + engine.frame_bytes)
            self.moves[key] = found
        return found

    def prompt(self, tokens: int) -> Piece:
        """A whole prompt."""
        found = self.prompts.get(tokens)
        if found is None:
            batch = Batch.prefill(tokens)
            stages = tuple(worker.time_s(batch) for worker in self.workers)
            found = self.prompts[tokens] = self._fixed(batch, "prefill", stages)
        return found

    def beside(self, sequences: int, context: float, prompts: Sequence[tuple[int, int]]) -> Piece:
        """A step with pieces of prompts, each some tokens after cached ones; it is made once."""
        tokens = sequences + sum(new for new, _ in prompts)
        count = sequences + len(prompts)
        reads_s = self._line(sequences, context, True).stages_s(context) if sequences else None
        if sequences == 0 and len(prompts) == 1:
            return self._fixed(*self._lonely(*prompts[0]))
        stages = tuple(
            terms.products_s(tokens, count)
            + sum(terms.prompt_s(new, cached) for new, cached in prompts)
            + (reads_s[stage] if reads_s else 0.0)
            for stage, terms in enumerate(self.terms)
        )
        phase: Phase = "decode" if sequences else "prefill"
        return self._fixed(Batch("prefill", count, tokens, 0), phase, stages)

    def _lonely(self, new: int, cached: int) -> tuple[Batch, Phase, tuple[float, ...]]:
        """A piece of a prompt with nothing beside it."""
        batch = Batch.prefill(new, cached)
        key = (new, cached)
        if key not in self.lonely:
            self.lonely[key] = tuple(worker.time_s(batch) for worker in self.workers)
        return batch, "prefill", self.lonely[key]

    def _fixed(self, batch: Batch, phase: Phase, stages: tuple[float, ...]) -> Piece:
        legs = self.legs(batch, phase)
        nothing = (0.0,) * len(stages)
        return Piece(legs, 0, 0, stages, nothing, sum(stages) + legs.total_s, 0.0)

    def decode(self, sequences: int, context: float) -> Piece:
        """The piece that a decode step with that many cached tokens lies on."""
        return self._line(sequences, context, False)

    def _line(self, sequences: int, context: float, mixed: bool) -> Piece:
        """The straight piece around ``context``: of whole steps, or of attention in mixed ones."""
        known = self.pieces.setdefault((sequences, mixed), [])
        for piece in known:
            if piece.low <= context <= piece.high:
                return piece
        low, high = self._between_windows(sequences, context)
        ask = self._reads_s if mixed else self._stages_s
        ends = ask(sequences, low), ask(sequences, high)
        while high - low > 1 and not self._straight(ask, sequences, low, high, *ends):
            middle = (low + high) // 2
            if context <= middle:
                high, ends = middle, (ends[0], ask(sequences, middle))
            else:
                low, ends = middle, (ask(sequences, middle), ends[1])
        slope = tuple((end - start) / max(1, high - low) for start, end in zip(*ends, strict=True))
        base = tuple(start - by * low for start, by in zip(ends[0], slope, strict=True))
        legs = self.legs(Batch.decode(sequences, context), "decode")
        piece = Piece(legs, low, high, base, slope, sum(base) + legs.total_s, sum(slope))
        known.insert(0, piece)
        return piece

    def _between_windows(self, sequences: int, context: float) -> tuple[int, int]:
        """The range of cached tokens around ``context`` in which no sliding window ends."""
        most = sequences * self.problem.model.max_position_embeddings
        low, high = 0, max(math.ceil(context), most)
        for window in {layer.kv_window for layer in self.problem.model.layers} - {None}:
            assert window is not None
            for edge in (sequences * (window - 1), sequences * window):
                if context >= edge:
                    low = max(low, edge)
                else:
                    high = min(high, edge)
        return low, high

    def _straight(
        self,
        ask: Callable[[int, int], list[float]],
        sequences: int,
        low: int,
        high: int,
        start: list[float],
        end: list[float],
    ) -> bool:
        for share in (0.5, 0.25, 0.75):
            inside = low + int((high - low) * share)
            real = (inside - low) / (high - low)
            for a, b, time in zip(start, end, ask(sequences, inside), strict=True):
                if abs(a + (b - a) * real - time) > _STRAIGHT * time:
                    return False
        return True

    def _stages_s(self, sequences: int, context: int) -> list[float]:
        batch = Batch.decode(sequences, context)
        return [worker.time_s(batch) for worker in self.workers]

    def _reads_s(self, sequences: int, context: int) -> list[float]:
        return [terms.decoding_s(sequences, context) for terms in self.terms]

    def note(self, piece: Piece, context: float, each: int, rounds: int) -> None:
        """Notes that steps went all the way, from ``context`` on with ``each`` more every time."""
        piece.legs.times += rounds
        if piece.high == 0:
            for stage, base_s in enumerate(piece.base_s):
                self.once_s[stage] += base_s * rounds
            return
        piece.times += rounds
        piece.context += rounds * context + each * (rounds * (rounds - 1) // 2)

    def book(self) -> None:
        """Puts the steps that went all the way on the accounts of the places, once."""
        for stop, spent_s in zip(self.stops, self.once_s, strict=True):
            self.places[stop].server.promised_s += spent_s
        self.once_s = [0.0] * len(self.stops)
        for piece in (piece for pieces in self.pieces.values() for piece in pieces):
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
