"""Server: something that is busy with one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Server:
    """First come, first served, in the order ``serve`` is called."""

    free_s: float = 0.0
    promised_s: float = 0.0
    """Work taken on so far."""

    def busy_s(self, now_s: float) -> float:
        """Time it has worked until now; what it has yet to do does not count."""
        return self.promised_s - max(0.0, self.free_s - now_s)

    def serve(self, now_s: float, service_s: float) -> tuple[float, float]:
        """When something that comes now begins and ends (s)."""
        begin_s = max(self.free_s, now_s)
        self.free_s = begin_s + service_s
        self.promised_s += service_s
        return begin_s, self.free_s

    def stop(self, now_s: float) -> None:
        """Drops what it has yet to do."""
        self.promised_s = self.busy_s(now_s)
        self.free_s = min(self.free_s, now_s)
