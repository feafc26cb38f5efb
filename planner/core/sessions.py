"""Sessions: users who answer an answer, with all that was said before in the next prompt."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Literal, Protocol

from pydantic import Field

from planner.core.request import Request
from planner.core.rng import stream
from planner.core.spec import Spec
from planner.core.units import Count, Positive, Seconds


class Drawn(Protocol):
    """A distribution of lengths."""

    def draw(self, rng: random.Random) -> int:
        """One length (tokens)."""


class Sessions(Spec):
    """Conversations of several turns: every prompt begins with all prompts and answers before it.

    The prompt lengths of the workload are what users add in a turn.
    """

    mean_turns: Annotated[Positive, Field(ge=1)]
    """Turns that users have in mind, in the mean."""
    turns: Literal["geometric", "fixed"] = "geometric"
    """Whether every turn may be the last one alike, or all sessions have as many (rounded)."""
    think_s: Seconds = Field(default=0.0, alias="think")
    """Mean time from an answer to the next prompt, exponentially distributed."""
    max_tokens: Count
    """Longest prompt and answer together; a session is over before a turn that would need more."""

    def draw_turns(self, rng: random.Random) -> int:
        """How many turns a user has in mind; a geometric number by inversion, in one draw."""
        if self.turns == "fixed":
            return round(self.mean_turns)
        if self.mean_turns == 1:
            return 1
        return 1 + int(math.log(1 - rng.random()) / math.log1p(-1 / self.mean_turns))

    def draw(
        self, seed: int, begins_s: Iterator[float], prompt: Drawn, output: Drawn
    ) -> Iterator[Request]:
        """The turns of one session after the other, without end."""
        draws = _Draws(
            stream(seed, "turns"),
            stream(seed, "think"),
            stream(seed, "prompt"),
            stream(seed, "output"),
        )
        ids = count()
        for session in count():
            begin_s, said, before = next(begins_s), 0, None
            for _ in range(self.draw_turns(draws.turns)):
                added, answer = prompt.draw(draws.prompt), output.draw(draws.output)
                if said + added + answer > self.max_tokens:
                    break
                think_s = 0.0
                if before is not None and self.think_s:
                    think_s = draws.think.expovariate(1 / self.think_s)
                number = next(ids)
                yield Request(number, begin_s, said + added, answer, session, before, think_s, said)
                said, before = said + added + answer, number


@dataclass(frozen=True, slots=True)
class _Draws:
    """Random streams of their own, so that more of one does not change another."""

    turns: random.Random
    think: random.Random
    prompt: random.Random
    output: random.Random
