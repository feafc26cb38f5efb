"""Drafts: guesses of the next tokens that one step checks together.

Answers often repeat what stands in the prompt, such as names, quotes and code. So what followed
the latest tokens the last time they occurred is a guess that costs nothing ("prompt lookup"). A
small model guesses better (``drafter.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from planner.run.frames import Seat

_GRAMS = (3, 2)
"""Latest tokens that are looked for, longer matches first."""


class Wish(NamedTuple):
    """Guesses that are wanted for a sequence."""

    ids: list[int]
    """All its tokens so far, those that are only guessed included."""
    most: int
    seat: Seat
    """Whose it is, and how its tokens are picked."""


class Guesser(Protocol):
    """Something that guesses what follows."""

    steps: int
    """Steps of a model that it has made."""

    def guess(
        self, pipeline: int, wishes: Sequence[Wish], halt: Callable[[], bool] = lambda: False
    ) -> list[list[int]]:
        """Up to as many tokens as wished for each sequence; fewer once ``halt`` says so.

        What was guessed then is known the next time.
        """

    def read(self, pipeline: int, wish: Wish) -> bool:
        """Gets acquainted with a prompt while the pipeline computes it; whether it had to."""


class LookUp:
    """Guesses what followed the latest tokens before."""

    steps = 0

    def guess(
        self, pipeline: int, wishes: Sequence[Wish], halt: Callable[[], bool] = lambda: False
    ) -> list[list[int]]:
        """As ``look_up`` says."""
        return [look_up(wish.ids, wish.most) for wish in wishes]

    def read(self, pipeline: int, wish: Wish) -> bool:
        """Nothing: the text is all it needs."""
        return False


@dataclass(slots=True)
class DraftTally:
    """How the guesses of a pipeline's sequences turned out."""

    checks: int = 0
    """Times that a sequence had tokens checked."""
    void: int = 0
    """Of these, checks of guesses behind one that was wrong."""
    drafted: int = 0
    accepted: int = 0
    refused: int = 0
    """Guesses that were wrong, each the first one of its check; and where none could be made."""

    @property
    def acceptance(self) -> float | None:
        """Share of the guesses that were right, of those whose turn came; None for none."""
        tried = self.accepted + self.refused
        return self.accepted / tried if tried else None


def look_up(ids: Sequence[int], most: int) -> list[int]:
    """Up to ``most`` tokens that followed the last earlier occurrence of the latest ones."""
    for length in _GRAMS:
        latest = list(ids[-length:])
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == latest:
                return list(ids[start + length : start + length + most])
    return []
