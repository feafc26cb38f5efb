"""Request: what is asked for once."""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """One request. ``output_tokens`` is known to the oracle only; no scheduler may read it."""

    id: int
    arrival_s: float
    """When it comes; when its session begins where it follows another turn."""
    prompt_tokens: int
    output_tokens: int
    session: int | None = None
    """The conversation it is a turn of."""
    after: int | None = None
    """Id of the turn that has to be answered before; None for one that comes at its own time."""
    think_s: float = 0.0
    """From that answer until it comes."""
    shared_tokens: int = 0
    """Leading tokens of its prompt that are that turn's prompt and answer."""
