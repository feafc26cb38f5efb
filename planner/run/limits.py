"""Limits: how much of a node each of its peers may use, and who uses how much now."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from planner.core.errors import RunError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node gives."""

    strangers: int = 32
    """Connections at once that have not said who they are."""
    streams: int = 64
    """Connections at once of one peer."""
    workers: int = 8
    """Workers at once of one peer."""
    streams_per_minute: int = 600
    """New connections of one peer."""
    cache_tokens: int = 2**20
    """Seats times tokens of one worker."""


class QuotaError(RunError):
    """A peer wants more than it may have."""


class Usage:
    """Who uses what at the moment."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], int] = defaultdict(int)
        self._begun: dict[str, deque[float]] = defaultdict(deque)

    def held(self, what: str, who: str) -> int:
        """How many of something a peer has now."""
        with self._lock:
            return self._held.get((what, who), 0)

    @contextlib.contextmanager
    def one(self, what: str, who: str, most: int) -> Iterator[None]:
        """Counts one more of something while it lasts; raises QuotaError beyond ``most``."""
        key = (what, who)
        with self._lock:
            if self._held.get(key, 0) >= most:
                raise QuotaError(f"{who or 'strangers'}: more than {most} {what}")
            self._held[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[key] -= 1
                if not self._held[key]:
                    del self._held[key]

    def begin(self, who: str, now_s: float | None = None) -> None:
        """Notes a new connection; raises QuotaError if there were too many of late."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            begun = self._begun[who]
            while begun and now_s - begun[0] > 60:
                begun.popleft()
            if len(begun) >= self.limits.streams_per_minute:
                raise QuotaError(f"{who}: more than {len(begun)} connections in a minute")
            begun.append(now_s)
