"""Audience: who hears of tokens and of ends, once a turn's work is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from planner.core.metrics import RequestRecord


@dataclass(slots=True)
class Audience:
    """Keeps what there is to tell until ``hear`` is called."""

    on_token: Callable[[int, int], None] | None = None
    on_end: Callable[[RequestRecord], None] | None = None
    tokens: list[tuple[int, int]] = field(default_factory=list)
    """Requests and their next tokens."""
    ended: list[RequestRecord] = field(default_factory=list)

    def hear(self) -> None:
        """Tells everything, in order."""
        if self.on_token:
            for request, token in self.tokens:
                self.on_token(request, token)
        if self.on_end:
            for record in self.ended:
                self.on_end(record)
        self.tokens.clear()
        self.ended.clear()
