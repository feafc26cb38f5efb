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
    drafts: tuple[int, ...] = ()
    """Guesses that are under way with its latest token."""

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def new_ids(self) -> list[int]:
        """What of them no stage holds yet."""
        answered = self.cached - len(self.prompt_ids)
        if answered >= 0:
            return self.output_ids[answered:]
        return self.prompt_ids[self.cached :] + self.output_ids
