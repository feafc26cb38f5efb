"""Pace: how long the jobs of a pipeline take at every place on their way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from planner.core.cost import Batch
from planner.core.cost.batch import Phase
from planner.core.cost.transfer import Carrier
from planner.core.cost.traversal import arrivals, payloads_bytes
from planner.core.plan import Pipeline
from planner.core.problem import Problem
from planner.sim.network import Latency, Wire, Worker


class Prompt(Protocol):
    """A piece of a prompt."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""

    @property
    def cached_tokens(self) -> int:
        """Tokens before them."""


@dataclass(slots=True)
class Piece:
    """Decode steps of so many sequences whose time grows evenly with the cached tokens."""

    size: int
    low: float
    high: float
    """Fewest and most cached tokens this holds for."""
    places_s: tuple[tuple[float, float], ...]
    """By place: how long it is taken with no cached tokens, if the piece went on that far, and what
    every cached token adds."""
    step_s: float
    """The former of all places, and everything else on the way."""
    growth_s: float
    times: int = 0
    """Steps that went all the way."""
    context: float = 0.0
    """Cached tokens of all of those."""


@dataclass(slots=True)
class Load:
    """What a job asks of the places of its way."""

    taken_s: Sequence[float]
    """By place: how long it is taken."""
    new_tokens: int
    sampled_tokens: int
    piece: Piece | None = None
    """Where it is a decode step."""
    context: float = 0.0


@dataclass(slots=True)
class Pace:
    """The pipeline as it stands on its nodes: its places, and what jobs take at them."""

    problem: Problem
    workers: Sequence[Worker]
    wires: Sequence[Wire]
    places: list[Wire | Worker] = field(default_factory=list)
    """Hops and stages in the order in which a job meets them."""
    prompts: dict[int, Load] = field(default_factory=dict)
    """By tokens of a whole prompt."""
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    """By number of sequences."""
    jobs: int = 0
    """Jobs that went all the way, and the tokens in them."""
    new_tokens: int = 0
    sampled_tokens: int = 0
    own_s: float = field(init=False)
    """The coordinator's time for a job."""
    after_s: tuple[float, ...] = field(init=False)
    """By place: on the way and in software after a message is sent; what is drawn is not in it."""
    draws: tuple[Latency | None, ...] = field(init=False)
    """By place: the latency that varies."""
    carriers: dict[Phase, list[Carrier | None]] = field(init=False)
    """By place: what messages take there; None at stages."""
    payloads: list[tuple[float, float]] = field(init=False)
    """By place: bytes on a wire per new and per sampled token."""
    once_s: list[float] = field(init=False)
    """By place: time of jobs that are not among the pieces."""
    latency_s: float = field(init=False)
    """Mean of the latencies that are drawn, over all hops."""
    jitter_s: float = field(init=False)
    """Standard deviation of their sum."""

    def __post_init__(self) -> None:
        pipeline = Pipeline(stages=tuple(worker.stage for worker in self.workers))
        ends_at_stage = arrivals(self.problem, pipeline)
        for hop, wire in enumerate(self.wires):
            self.places.append(wire)
            if hop in ends_at_stage:
                self.places.append(self.workers[ends_at_stage.index(hop)])
        wires = [place if isinstance(place, Wire) else None for place in self.places]
        self.draws = tuple(wire.latency_s if wire else None for wire in wires)
        self.carriers = {
            phase: [wire.carriers[phase] if wire else None for wire in wires]
            for phase in ("prefill", "decode")
        }
        self.after_s = tuple(
            carrier.relay_s + (0.0 if draw else carrier.propagate_s) if carrier else 0.0
            for carrier, draw in zip(self.carriers["decode"], self.draws, strict=True)
        )
        per_new = iter(payloads_bytes(self.problem, pipeline, Batch("prefill", 0, 1, 0)))
        per_sampled = iter(payloads_bytes(self.problem, pipeline, Batch("prefill", 1, 0, 0)))
        self.payloads = [
            (next(per_new), next(per_sampled)) if wire else (0.0, 0.0) for wire in wires
        ]
        self.own_s = self.problem.engine.coordinator_step_s
        self.once_s = [0.0] * len(self.places)
        drawn = [draw.moments for draw in self.draws if draw]
        self.latency_s = sum(mean for mean, _ in drawn)
        self.jitter_s = math.sqrt(sum(variance for _, variance in drawn))

    def prompt(self, tokens: int) -> Load:
        """A whole prompt."""
        found = self.prompts.get(tokens)
        if found is None:
            stages_s = [worker.straight.terms.lonely_prompt_s(tokens, 0) for worker in self.workers]
            found = self.prompts[tokens] = self._load("prefill", tokens, 1, stages_s)
        return found

    def beside(self, sequences: int, context: float, prompts: Sequence[Prompt]) -> Load:
        """A step with pieces of prompts and ``sequences`` that decode."""
        if not sequences and len(prompts) == 1:
            new, cached = prompts[0].tokens, prompts[0].cached_tokens
            lonely = [worker.straight.terms.lonely_prompt_s(new, cached) for worker in self.workers]
            return self._load("prefill", new, 1, lonely)
        tokens, count = sequences, sequences + len(prompts)
        for prompt in prompts:
            tokens += prompt.tokens
        stages_s = []
        for worker in self.workers:
            terms = worker.straight.terms
            time_s = terms.products_s(tokens, count)
            for prompt in prompts:
                time_s += terms.prompt_s(prompt.tokens, prompt.cached_tokens)
            if sequences:
                line = worker.straight.beside(sequences, context)
                time_s += line.base_s + line.slope_s * context
            stages_s.append(time_s)
        return self._load("decode" if sequences else "prefill", tokens, count, stages_s)

    def _load(self, phase: Phase, new: int, sampled: int, stages_s: Sequence[float]) -> Load:
        rest = iter(stages_s)
        taken_s = [
            carrier.busy_s(new * per_new + sampled * per_sampled) if carrier else next(rest)
            for carrier, (per_new, per_sampled) in zip(
                self.carriers[phase], self.payloads, strict=True
            )
        ]
        return Load(taken_s, new, sampled)

    def decode(self, sequences: int, context: float) -> Piece:
        """The piece that a decode step with that many cached tokens lies on."""
        known = self.pieces.setdefault(sequences, [])
        for piece in known:
            if piece.low <= context <= piece.high:
                return piece
        lines = [worker.straight.decode(sequences, context) for worker in self.workers]
        base_s = self._load("decode", sequences, sequences, [line.base_s for line in lines]).taken_s
        slopes_s = iter(line.slope_s for line in lines)
        slope_s = [0.0 if carrier else next(slopes_s) for carrier in self.carriers["decode"]]
        low, high = max(line.low for line in lines), min(line.high for line in lines)
        step_s = self.own_s + sum(base_s) + sum(self.after_s)
        places_s = tuple(zip(base_s, slope_s, strict=True))
        piece = Piece(sequences, low, high, places_s, step_s, sum(slope_s))
        known.insert(0, piece)
        return piece

    def step(self, sequences: int, context: float) -> Load:
        """A single decode step."""
        piece = self.decode(sequences, context)
        taken_s = [base + slope * context for base, slope in piece.places_s]
        return Load(taken_s, sequences, sequences, piece, context)

    def note(self, load: Load) -> None:
        """Notes that a job went all the way."""
        if load.piece is not None:
            self.note_steps(load.piece, load.context, 1)
            return
        self.jobs += 1
        self.new_tokens += load.new_tokens
        self.sampled_tokens += load.sampled_tokens
        self.once_s = [a + b for a, b in zip(self.once_s, load.taken_s, strict=True)]

    def note_steps(self, piece: Piece, context: float, rounds: int) -> None:
        """Notes that decode steps went all the way, each with ``size`` more cached tokens."""
        piece.times += rounds
        piece.context += rounds * context + piece.size * (rounds * (rounds - 1) // 2)

    def message_bytes(self, index: int, load: Load) -> float:
        """Bytes that a job sends at a place."""
        per_new, per_sampled = self.payloads[index]
        payload = load.new_tokens * per_new + load.sampled_tokens * per_sampled
        return payload + self.problem.engine.frame_bytes

    def book(self) -> None:
        """Puts the jobs that went all the way on the accounts of the places, once."""
        busy_s = self.once_s
        for piece in (piece for pieces in self.pieces.values() for piece in pieces):
            for index, (base, slope) in enumerate(piece.places_s):
                busy_s[index] += base * piece.times + slope * piece.context
            self.jobs += piece.times
            self.new_tokens += piece.size * piece.times
            self.sampled_tokens += piece.size * piece.times
            piece.times, piece.context = 0, 0.0
        for place, spent_s, per in zip(self.places, busy_s, self.payloads, strict=True):
            place.server.promised_s += spent_s
            if isinstance(place, Wire):
                place.sent_bytes += self.new_tokens * per[0] + self.sampled_tokens * per[1]
                place.sent_bytes += self.jobs * self.problem.engine.frame_bytes
        self.once_s = [0.0] * len(self.places)
        self.jobs = self.new_tokens = self.sampled_tokens = 0
