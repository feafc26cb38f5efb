"""Spelling: tokens become text as they come, up to the first of some stop strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Spelling:
    """The text of one answer.

    Text that may turn out to be the beginning of a stop string is held back until it is clear.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer, self._stops = tokenizer, [stop for stop in stops if stop]
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._spelt = self._held = ""
        self.stopped = False
        """Whether a stop string came; nothing is spelled after that."""

    def add(self, token: int) -> str:
        """The text that is certain after one more token."""
        if self.stopped:
            return ""
        self._ids.append(token)
        new = self._stream.step(self._tokenizer, token) or ""
        self._spelt += new
        self._held += new
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found))
        return self._release(len(self._held) - self._doubtful())

    def end(self) -> str:
        """What was held back, and the bytes of a character that was never finished."""
        if self.stopped:
            return ""
        whole = self._tokenizer.decode(self._ids)
        unfinished = whole.removeprefix(self._spelt) if whole.startswith(self._spelt) else ""
        return self._release(len(self._held)) + unfinished

    def _release(self, characters: int) -> str:
        said, self._held = self._held[:characters], self._held[characters:]
        return said

    def _doubtful(self) -> int:
        """How many of the last characters may begin a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._held) + 1))
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )
