"""Pace: how long the jobs of a pipeline take at every place on their way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple

from planner.core.cost import Batch
from planner.core.cost.batch import Phase
from planner.core.cost.traversal import arrivals, jobs_of, payloads_bytes
from planner.core.plan import Pipeline
from planner.core.problem import Problem
from planner.sim.network import Latency, Wire, Worker
from planner.sim.straight import Prompt, Straight


@dataclass(slots=True)
class Piece:
    """Decode steps of so many sequences whose time grows evenly with the cached tokens."""

    size: int
    low: float
    high: float
    """Fewest and most cached tokens this holds for."""
    base_s: Sequence[float]
    """By place: how long it is taken with no cached tokens, if the piece went on that far."""
    slopes_s: Sequence[tuple[int, float]]
    """Stages by their place, and what every cached token adds there."""
    step_s: float
    """The former of all places, and everything else on the way, with the mean of what is drawn."""
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
    silent: bool = False
    """Whether more of its prompt follows: it ends at the last stage."""
    ahead: Sequence[Load] = ()
    """Earlier chunks of its prompt, each a job of its own."""


class Hop(NamedTuple):
    """A wire on the way."""

    place: int
    """Which of the places it is."""
    wire: Wire
    per_new: float
    """Bytes of its messages per token that is computed."""
    per_sampled: float


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
    silent_jobs: int = 0
    """Of these, jobs that ended at the last stage."""
    new_tokens: int = 0
    sampled_tokens: int = 0
    own_s: float = field(init=False)
    """The coordinator's time for a job."""
    after_s: tuple[float, ...] = field(init=False)
    """By place: on the way and in software after a message is sent; what is drawn is not in it."""
    draws: tuple[Latency | None, ...] = field(init=False)
    """By place: the latency that varies."""
    straights: list[Straight] = field(init=False)
    """By stage: what its steps take."""
    hops: list[Hop] = field(init=False)
    stops: list[int] = field(init=False)
    """Which places are stages."""
    once_s: list[float] = field(init=False)
    """By place: time of jobs that are not among the pieces."""
    mixed: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Jobs of which only the stages' time is in ``once_s``, and tokens computed and sampled."""
    messages_s: list[tuple[float, float, float]] = field(init=False)
    """By place: how long a message of decoding sequences takes it, for itself, for every token that
    is computed, and for every one that is sampled; nothing at stages."""
    way_s: tuple[float, float, float] = field(init=False)
    """The same of all places, with all that is on the way besides."""
    stages: list[tuple[int, Straight]] = field(init=False)
    """Stages by their place."""
    fixed_s: float = field(init=False)
    """Everything on the way but the places, with the mean of what is drawn."""
    jitter_s: float = field(init=False)
    """Standard deviation of their sum."""

    def __post_init__(self) -> None:
        pipeline = Pipeline(stages=tuple(worker.stage for worker in self.workers))
        ends_at_stage = arrivals(self.problem, pipeline)
        for number, wire in enumerate(self.wires):
            self.places.append(wire)
            if number in ends_at_stage:
                self.places.append(self.workers[ends_at_stage.index(number)])
        per_new = iter(payloads_bytes(self.problem, pipeline, Batch("prefill", 0, 1, 0)))
        per_sampled = iter(payloads_bytes(self.problem, pipeline, Batch("prefill", 1, 0, 0)))
        self.hops = [
            Hop(index, place, next(per_new), next(per_sampled))
            for index, place in enumerate(self.places)
            if isinstance(place, Wire)
        ]
        self.stops = [index for index, place in enumerate(self.places) if isinstance(place, Worker)]
        after_s = [0.0] * len(self.places)
        draws: list[Latency | None] = [None] * len(self.places)
        for hop in self.hops:
            carrier, draws[hop.place] = hop.wire.carriers["decode"], hop.wire.latency_s
            away_s = 0.0 if hop.wire.latency_s else carrier.propagate_s
            after_s[hop.place] = carrier.relay_s + away_s
        self.after_s, self.draws = tuple(after_s), tuple(draws)
        self.messages_s = [(0.0, 0.0, 0.0)] * len(self.places)
        for place, wire, new, sampled in self.hops:
            carrier = wire.carriers["decode"]
            alone_s = carrier.busy_s(0.0)
            token_s, sampled_s = (carrier.busy_s(more) - alone_s for more in (new, sampled))
            self.messages_s[place] = alone_s, token_s, sampled_s
        self.own_s = self.problem.engine.coordinator_step_s
        self.once_s = [0.0] * len(self.places)
        self.straights = [worker.straight for worker in self.workers]
        drawn = [draw.moments for draw in self.draws if draw]
        self.fixed_s = self.own_s + sum(self.after_s) + sum(mean for mean, _ in drawn)
        self.jitter_s = math.sqrt(sum(variance for _, variance in drawn))
        alone_s, token_s, sampled_s = (sum(one) for one in zip(*self.messages_s, strict=True))
        self.way_s = self.fixed_s + alone_s, token_s, sampled_s
        self.stages = list(zip(self.stops, self.straights, strict=True))

    def prompt(self, tokens: int) -> Load:
        """A whole prompt."""
        found = self.prompts.get(tokens)
        if found is None:
            *ahead, found = self._jobs(tokens)
            found.ahead = ahead
            self.prompts[tokens] = found
        return found

    def _jobs(self, tokens: int) -> Iterator[Load]:
        """What the jobs ask for in which a prompt goes down the pipeline."""
        before_bytes = [0.0] * len(self.places)
        for job in jobs_of(self.problem, Batch.prefill(tokens), seats=1):
            new, cached, silent = int(job.new_tokens), int(job.context_tokens), job.silent
            stages_s = [
                worker.straight.terms.lonely_prompt_s(new, cached, silent=silent)
                for worker in self.workers
            ]
            load = self._load("prefill", new, 0 if silent else 1, stages_s, before_bytes)
            load.silent = silent
            for hop in self.hops:
                if hop.place < self.stops[-1]:
                    before_bytes[hop.place] += self.message_bytes(hop, load)
            yield load

    def beside(self, sequences: int, context: float, prompts: Sequence[Prompt]) -> Load:
        """A step with pieces of prompts and ``sequences`` that decode."""
        if not sequences and len(prompts) == 1:
            new, cached = prompts[0].tokens, prompts[0].cached_tokens
            lonely = [worker.straight.terms.lonely_prompt_s(new, cached) for worker in self.workers]
            return self._load("prefill", new, 1, lonely)
        tokens, count = sequences, sequences + len(prompts)
        for prompt in prompts:
            tokens += prompt.tokens
        stages_s = [
            straight.mixed_s(tokens, count, sequences, context, prompts)
            for straight in self.straights
        ]
        if not sequences:
            return self._load("prefill", tokens, count, stages_s)
        taken_s = [
            alone_s + tokens * token_s + count * sampled_s
            for alone_s, token_s, sampled_s in self.messages_s
        ]
        for index, time_s in zip(self.stops, stages_s):  # noqa: B905 (as many, once a step)
            taken_s[index] = time_s
        return Load(taken_s, tokens, count)

    def alone_s(self, sequences: int, context: float, prompts: Sequence[Prompt]) -> float:
        """How long such a step takes in all with nothing else on the way; it is noted.

        There may be no prompts in it.
        """
        if not sequences:
            load = self.beside(sequences, context, prompts)
            self.note(load)
            return self.fixed_s + sum(load.taken_s)
        if not prompts:
            piece = self.decode(sequences, context)
            piece.times += 1
            piece.context += context
            return piece.step_s + piece.growth_s * context
        tokens, count = sequences, sequences + len(prompts)
        for prompt in prompts:
            tokens += prompt.tokens
        alone_s, token_s, sampled_s = self.way_s
        took_s = alone_s + tokens * token_s + count * sampled_s
        for index, straight in self.stages:
            time_s = straight.mixed_s(tokens, count, sequences, context, prompts)
            self.once_s[index] += time_s
            took_s += time_s
        mixed = self.mixed
        mixed[0] += 1
        mixed[1] += tokens
        mixed[2] += count
        return took_s

    def _load(
        self,
        phase: Phase,
        new: int,
        sampled: int,
        stages_s: Sequence[float],
        before_bytes: Sequence[float] | None = None,
    ) -> Load:
        taken_s = [0.0] * len(self.places)
        for index, wire, per_new, per_sampled in self.hops:
            payload = new * per_new + sampled * per_sampled
            behind = before_bytes[index] if before_bytes else 0.0
            taken_s[index] = wire.carriers[phase].busy_s(payload, behind)
        for index, time_s in zip(self.stops, stages_s):  # noqa: B905 (as many, once a step)
            taken_s[index] = time_s
        return Load(taken_s, new, sampled)

    def decode(self, sequences: int, context: float) -> Piece:
        """The piece that a decode step with that many cached tokens lies on."""
        known = self.pieces.setdefault(sequences, [])
        for piece in known:
            if piece.low <= context <= piece.high:
                return piece
        lines = [straight.decode(sequences, context) for straight in self.straights]
        base_s = self._load("decode", sequences, sequences, [line.base_s for line in lines]).taken_s
        slopes_s = [(index, line.slope_s) for index, line in zip(self.stops, lines, strict=True)]
        low, high = max(line.low for line in lines), min(line.high for line in lines)
        step_s = self.fixed_s + sum(base_s)
        growth_s = sum(line.slope_s for line in lines)
        piece = Piece(sequences, low, high, base_s, slopes_s, step_s, growth_s)
        known.insert(0, piece)
        return piece

    def step(self, sequences: int, context: float) -> Load:
        """A single decode step."""
        load = Load((), sequences, sequences)
        self.go_on(load, context)
        return load

    def go_on(self, load: Load, context: float) -> None:
        """Turns a decode step into one of the same sequences with other cached tokens."""
        piece = load.piece
        if piece is None or not piece.low <= context <= piece.high:
            piece = load.piece = self.decode(load.sampled_tokens, context)
        taken_s = [*piece.base_s]
        for index, slope_s in piece.slopes_s:
            taken_s[index] += slope_s * context
        load.taken_s, load.context = taken_s, context

    def note(self, load: Load) -> None:
        """Notes that a job went all the way."""
        piece = load.piece
        if piece is not None:
            piece.times += 1
            piece.context += load.context
            return
        self.jobs += 1
        self.new_tokens += load.new_tokens
        self.sampled_tokens += load.sampled_tokens
        taken_s = load.taken_s
        if load.silent:
            self.silent_jobs += 1
            taken_s = [*taken_s[: self.ends(load)], *[0.0] * (len(taken_s) - self.ends(load))]
        self.once_s = list(map(add, self.once_s, taken_s))

    def ends(self, load: Load) -> int:
        """How many places a job passes."""
        return self.stops[-1] + 1 if load.silent else len(self.places)

    def message_bytes(self, hop: Hop, load: Load) -> float:
        """Bytes that a job sends on a hop."""
        payload = load.new_tokens * hop.per_new + load.sampled_tokens * hop.per_sampled
        return payload + self.problem.engine.frame_bytes

    def book(self) -> None:
        """Puts the jobs that went all the way on the accounts of the places, once."""
        busy_s = self.once_s
        jobs, tokens, sampled = self.mixed
        for index, (alone_s, token_s, each_s) in enumerate(self.messages_s):
            busy_s[index] += jobs * alone_s + tokens * token_s + sampled * each_s
        self.jobs += jobs
        self.new_tokens += tokens
        self.sampled_tokens += sampled
        for piece in (piece for pieces in self.pieces.values() for piece in pieces):
            slopes_s = dict(piece.slopes_s)
            for index, base_s in enumerate(piece.base_s):
                slope_s = slopes_s.get(index, 0.0)
                busy_s[index] += base_s * piece.times + slope_s * piece.context
            self.jobs += piece.times
            self.new_tokens += piece.size * piece.times
            self.sampled_tokens += piece.size * piece.times
            piece.times, piece.context = 0, 0.0
        for place, spent_s in zip(self.places, busy_s, strict=True):
            place.server.promised_s += spent_s
        for index, wire, per_new, per_sampled in self.hops:
            jobs = self.jobs - self.silent_jobs * (index > self.stops[-1])
            wire.sent_bytes += self.new_tokens * per_new + self.sampled_tokens * per_sampled
            wire.sent_bytes += jobs * self.problem.engine.frame_bytes
        self.once_s, self.mixed = [0.0] * len(self.places), [0, 0, 0]
        self.jobs = self.silent_jobs = self.new_tokens = self.sampled_tokens = 0
