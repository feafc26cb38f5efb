"""Conversations of recorded requests: whose prompt begins with what was said before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.core.workload import Request

_BLOCK_TOKENS = 512
"""Tokens behind each hash of a Mooncake trace, the last one perhaps of fewer."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row of a trace."""

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    conversation: str = ""
    """What the trace calls the conversation; empty where it does not say."""
    hashes: tuple[int, ...] = ()
    """Of the blocks of the prompt, each with all before it."""


def requests_of(rows: Sequence[Recorded], speed: float) -> Iterator[Request]:
    """Rows in order of arrival as requests, the first one at 0, ``speed`` times as fast."""
    start_s, known = rows[0].arrival_s, _Conversations({}, {}, {})
    for index, row in enumerate(rows):
        session, shared = known.place(index, row)
        yield Request(
            index,
            (row.arrival_s - start_s) / speed,
            row.prompt_tokens,
            row.output_tokens,
            session,
            shared_tokens=min(shared, row.prompt_tokens - 1),
        )


@dataclass(slots=True)
class _Conversations:
    """What was said so far."""

    named: dict[str, int]
    """Conversations by what the trace calls them."""
    said_tokens: dict[int, int]
    """By conversation: its latest prompt and answer."""
    ends: dict[int, int]
    """By the hash of a prompt's last whole block: the conversation it is of."""

    def place(self, index: int, row: Recorded) -> tuple[int | None, int]:
        """The conversation of a row, if there is one, and the tokens it begins with."""
        if row.hashes:
            return self._by_hash(index, row)
        if not row.conversation:
            return None, 0
        session = self.named.setdefault(row.conversation, index)
        said = self.said_tokens.get(session, 0)
        self.said_tokens[session] = row.prompt_tokens + row.output_tokens
        # A prompt that is not longer than all that was said does not hold it.
        return session, said if row.prompt_tokens > said else 0

    def _by_hash(self, index: int, row: Recorded) -> tuple[int, int]:
        """Continues the prompt whose whole blocks are the most of this one's first blocks."""
        whole = row.hashes[: row.prompt_tokens // _BLOCK_TOKENS]
        session, shared = index, 0
        for count in range(len(whole), 0, -1):
            if whole[count - 1] in self.ends:
                session, shared = self.ends[whole[count - 1]], count * _BLOCK_TOKENS
                break
        if whole:
            self.ends[whole[-1]] = session
        return session, shared
