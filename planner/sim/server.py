"""Server: something that is busy with one thing at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_ROUNDING_S = 1e-9
"""What differences of sums may leave of work that has not begun."""


@dataclass(slots=True)
class Server:
    """First come, first served, in the order ``serve`` is called."""

    free_s: float = 0.0
    promised_s: float = 0.0
    """Work taken on so far."""
    idle_s: deque[tuple[float, float]] = field(default_factory=deque)
    """When it will be idle before it is free for good: what comes then is still on its way."""

    def busy_s(self, now_s: float) -> float:
        """Time it has worked until now; what it has yet to do does not count."""
        ahead_s = max(0.0, self.free_s - now_s)
        for start_s, end_s in self.idle_s:
            ahead_s -= max(0.0, end_s - max(start_s, now_s))
        worked_s = self.promised_s - ahead_s
        return 0.0 if -_ROUNDING_S < worked_s < 0 else worked_s

    def serve(self, now_s: float, service_s: float, from_s: float = 0.0) -> tuple[float, float]:
        """When something that comes now, or at ``from_s``, begins and ends (s)."""
        begin_s = self.free_s if self.free_s > now_s else now_s
        if from_s > begin_s:
            while self.idle_s and self.idle_s[0][1] <= now_s:
                self.idle_s.popleft()
            self.idle_s.append((begin_s, from_s))
            begin_s = from_s
        self.free_s = begin_s + service_s
        self.promised_s += service_s
        return begin_s, self.free_s

    def stop(self, now_s: float) -> None:
        """Drops what it has yet to do."""
        self.promised_s = self.busy_s(now_s)
        self.free_s = min(self.free_s, now_s)
        self.idle_s.clear()
