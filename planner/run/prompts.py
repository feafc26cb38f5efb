"""Prompt: a request with its content, and what becomes of it on its way."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request with its content."""

    id: int
    arrival_s: float
    content: str | list[int]
    """Text to be tokenised on arrival, or token ids."""
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    """Tokens that end the answer early."""


@dataclass(slots=True, eq=False)
class Running:
    """A prompt on its way through a pipeline."""

    id: int
    prompt_ids: list[int]
    pipeline: int = 0
    output_ids: list[int] = field(default_factory=list)
    slot: int = -1
    group: int = -1
    cached: int = 0
    """Tokens that every stage holds of it."""
    ahead: list[int] = field(default_factory=list)
    """Guesses that are under way, and not found wrong so far."""
    under_way: int = 0
    """Checks whose answers are of use."""
    turn: int = 0
    """Grows with every wrong guess: answers of earlier turns are void."""
    ended: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def sent(self) -> int:
        """Tokens that every stage holds once what is under way has been computed."""
        return self.tokens + len(self.ahead) if self.under_way else self.cached

    @property
    def ids(self) -> list[int]:
        """Tokens of prompt and answer so far, and the guesses that are under way."""
        return self.prompt_ids + self.output_ids + self.ahead

    def confirm(self, token: int) -> bool | None:
        """Whether a guess foresaw the next token; None where there was no guess.

        A wrong guess makes all that follow it void.
        """
        if not self.ahead:
            return None
        if self.ahead.pop(0) == token:
            return True
        self.give_up()
        return False

    def give_up(self) -> None:
        """Has what is under way be of no use."""
        self.ahead.clear()
        self.under_way = 0
        self.turn += 1
