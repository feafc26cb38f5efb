"""Straight: the time of a stage's decode steps as a function of the cached tokens.

At a given number of sequences this is made of a few straight pieces: rooflines have kinks, sliding
windows end. A piece is found once and serves all steps on it, on every stage that is equal. That it
is straight is checked, not assumed: between the ends of the windows times are convex, and a convex
function that meets its chord in the middle is the chord.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from planner.core.cost import Batch
from planner.core.cost.joint import Terms

_STRAIGHT = 1e-13
"""Relative distance from the chord that counts as none."""

Times = Callable[[int, int], float]
"""Seconds by sequences and cached tokens."""

Point = tuple[int, float]
"""Cached tokens and seconds."""


class Prompt(Protocol):
    """A piece of a prompt."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""

    @property
    def cached_tokens(self) -> int:
        """Tokens before them."""


@dataclass(frozen=True, slots=True)
class Line:
    """Time that grows evenly with the cached tokens."""

    low: float
    high: float
    """Fewest and most cached tokens this holds for."""
    base_s: float
    """Time with no cached tokens, if the line went on that far."""
    slope_s: float
    """Time per cached token."""


@dataclass(slots=True)
class Straight:
    """The straight pieces of one kind of stage."""

    terms: Terms
    whole: dict[int, list[Line]] = field(default_factory=dict)
    """Of whole decode steps, by number of sequences."""
    reads: dict[int, list[Line]] = field(default_factory=dict)
    """Of attention where a piece of a prompt is beside it."""

    def decode(self, sequences: int, context: float) -> Line:
        """The line on which a decode step with that many cached tokens lies."""
        for line in self.whole.get(sequences, ()):
            if line.low <= context <= line.high:
                return line
        known = self.whole.setdefault(sequences, [])
        return self._find(known, self._whole_s, sequences, context)

    def beside(self, sequences: int, context: float) -> Line:
        """The same for what decoding adds to a step with a piece of a prompt in it."""
        for line in self.reads.get(sequences, ()):
            if line.low <= context <= line.high:
                return line
        known = self.reads.setdefault(sequences, [])
        return self._find(known, self._reads_s, sequences, context)

    def mixed_s(
        self,
        tokens: int,
        count: int,
        sequences: int,
        context: float,
        prompts: Sequence[Prompt],
    ) -> float:
        """A step of so many tokens of ``count`` sequences: those that decode, and prompts (s)."""
        terms = self.terms
        time_s = terms.products_s(tokens, count)
        for prompt in prompts:
            time_s += terms.prompt_s(prompt.tokens, prompt.cached_tokens)
        if sequences:
            for line in self.reads.get(sequences, ()):
                if line.low <= context <= line.high:
                    break
            else:
                line = self.beside(sequences, context)
            time_s += line.base_s + line.slope_s * context
        return time_s

    def _whole_s(self, sequences: int, context: int) -> float:
        return self.terms.alone_s(Batch.decode(sequences, context))

    def _reads_s(self, sequences: int, context: int) -> float:
        return self.terms.decoding_s(sequences, context)

    def _find(self, known: list[Line], ask: Times, sequences: int, context: float) -> Line:
        low, high = self._between_windows(sequences, context)
        ends = (low, ask(sequences, low)), (high, ask(sequences, high))
        nearer = max(low, min(low + sequences, int(context)))
        if not _is_straight(ask, sequences, *ends):
            # the usual kink is where hardly any cached tokens leave attention bound by arithmetic
            ends = (nearer, ask(sequences, nearer)), ends[1]
            if not _is_straight(ask, sequences, *ends):
                ends = _halved(ask, sequences, context, (low, ask(sequences, low)), ends[1])
        (low, start_s), (high, end_s) = ends
        slope_s = (end_s - start_s) / max(1, high - low)
        line = Line(low, high, start_s - slope_s * low, slope_s)
        known.insert(0, line)
        return line

    def _between_windows(self, sequences: int, context: float) -> tuple[int, int]:
        """The range of cached tokens around ``context`` in which no sliding window ends."""
        model = self.terms.model
        low, high = 0, max(math.ceil(context), sequences * model.max_position_embeddings)
        for window in {layer.kv_window for layer in model.layers} - {None}:
            assert window is not None
            for edge in (sequences * (window - 1), sequences * window):
                if context >= edge:
                    low = max(low, edge)
                else:
                    high = min(high, edge)
        return low, high


def _halved(
    ask: Times, sequences: int, context: float, start: Point, end: Point
) -> tuple[Point, Point]:
    """The ends of a straight piece around ``context``: what is not straight is cut in halves."""
    while end[0] - start[0] > 1 and not _is_straight(ask, sequences, start, end):
        middle = (start[0] + end[0]) // 2
        if context <= middle:
            end = middle, ask(sequences, middle)
        else:
            start = middle, ask(sequences, middle)
    return start, end


def _is_straight(ask: Times, sequences: int, start: Point, end: Point) -> bool:
    (low, start_s), (high, end_s) = start, end
    for share in (0.5, 0.25, 0.75):
        inside = low + int((high - low) * share)
        time_s = ask(sequences, inside)
        chord_s = start_s + (end_s - start_s) * (inside - low) / max(1, high - low)
        if abs(chord_s - time_s) > _STRAIGHT * time_s:
            return False
    return True
