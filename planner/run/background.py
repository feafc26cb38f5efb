"""Background: what is done on threads, none of which ends without a word."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_CLOSE_S = 5.0


@dataclass(slots=True)
class Background:
    """Does things at once or later until it is closed; ``failed`` hears of unexpected errors."""

    failed: Callable[[Exception], None]
    closed: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, work: Callable[..., None], *values: object, after_s: float = 0.0) -> None:
        """Does something on a thread of its own."""

        def guarded() -> None:
            try:
                work(*values)
            except Exception as error:
                if not self.closed:  # else processes and files end under it
                    self.failed(error)

        thread = threading.Timer(after_s, guarded) if after_s else threading.Thread(target=guarded)
        thread.daemon = True
        with self._lock:
            if not self.closed:
                self._threads = [one for one in self._threads if one.is_alive()]
                thread.start()
                self._threads.append(thread)

    def join(self, patience_s: float = _CLOSE_S) -> None:
        """Waits for each thread to end, ``patience_s`` at most; what is yet to begin does not."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if isinstance(thread, threading.Timer):
                thread.cancel()
            thread.join(patience_s)
