"""Place: where workers run, and how processes of one place reach those of another.

Workers themselves talk to their own host only. Where a neighbour is on another machine, its place
hands out a port of this host that leads there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
from typing import IO, Protocol

from planner.core.errors import RunError
from planner.run.nursery import nursery
from planner.run.ready import ready

_END_S = 5.0


class UnreachableError(RunError):
    """A place does not answer; ``host`` says which."""

    def __init__(self, host: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.host = host


class Process(Protocol):
    """A worker that was started, wherever it runs."""

    control: socket.socket
    """Where its orders go and its answers come from."""

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended, or does within ``patience_s``."""

    def kill(self) -> None:
        """Ends it at once."""

    def strike(self, hangs: bool) -> None:
        """Rehearses its loss: it ends without a word, or stops and stays."""

    def last_words(self) -> str:
        """Why it ended, as far as anybody knows."""

    def close(self) -> None:
        """Gives up what is held for it; it must have ended."""


class Place(Protocol):
    """A host that workers run on."""

    host: str
    """Places of one host share its processor."""

    @property
    def signer(self) -> str | None:
        """Public key of the node there (hex), if it has one: its workers sign receipts with it."""

    def start(self, threads: int) -> Process:
        """A new worker, waiting for its orders; raises UnreachableError."""

    def obtain(self, start: int, stop: int) -> bool:
        """Has the weights of layers come here; False where somebody else has to see to that.

        Raises RunError.
        """

    def port_to(self, other: Place, port: int) -> int:
        """A port here that leads to ``port`` of another place; raises UnreachableError."""

    def port_from_home(self, port: int) -> int:
        """A port of the coordinator's host that leads to ``port`` here; UnreachableError."""


class LocalProcess:
    """A worker on this host; what it prints is kept for its last words."""

    def __init__(self) -> None:
        try:
            self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
            self.control, theirs = socket.socketpair()
            with theirs:
                self.pid, self._end = nursery().start(theirs, self._log.fileno())
        except OSError as error:  # out of descriptors, memory or disk, now
            raise RunError(f"no worker could be started: {error}") from None

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended, or does within ``patience_s``."""
        return self._end < 0 or bool(ready([self._end], patience_s))

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)

    def strike(self, hangs: bool) -> None:
        """Rehearses its loss: it ends without a word, or stops and stays."""
        self._signal(signal.SIGSTOP if hangs else signal.SIGKILL)

    def last_words(self) -> str:
        """The last lines it printed, its exit code among them."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return ": ".join(lines[-2:])

    def close(self) -> None:
        """Gives up its connection and its log."""
        self.ended(_END_S)
        self.control.close()
        self._log.close()
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._end, number)


class Here:
    """The coordinator's host, where every port is reached directly."""

    host = ""
    signer: str | None = None

    def start(self, threads: int) -> LocalProcess:
        """A process on this host; torch is told how many threads when it loads."""
        return LocalProcess()

    def obtain(self, start: int, stop: int) -> bool:
        """Workers of this host are brought them."""
        return False

    def port_to(self, other: Place, port: int) -> int:
        """A way from the coordinator, which is here."""
        return other.port_from_home(port)

    def port_from_home(self, port: int) -> int:
        """The same port."""
        return port
