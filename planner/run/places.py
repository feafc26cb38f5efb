"""Place: where workers run, and how processes of one place reach those of another.

Workers themselves talk to their own host only. Where a neighbour is on another machine, its place
hands out a port of this host that leads there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Protocol

import planner


class Process(Protocol):
    """A worker that was started, wherever it runs."""

    control: socket.socket
    """Where its orders go and its answers come from."""

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended, or does within ``patience_s``."""

    def kill(self) -> None:
        """Ends it at once."""

    def last_words(self) -> str:
        """Why it ended, as far as anybody knows."""

    def close(self) -> None:
        """Gives up what is held for it; it must have ended."""


class Place(Protocol):
    """A host that workers run on."""

    host: str
    """Places of one host share its processor."""

    def start(self, threads: int) -> Process:
        """A new worker, waiting for its orders; raises RunError."""

    def port_to(self, other: Place, port: int) -> int:
        """A port here that leads to ``port`` of another place."""

    def port_from_home(self, port: int) -> int:
        """A port of the coordinator's host that leads to ``port`` here."""


class LocalProcess:
    """A child of this process; what it prints is kept for its last words."""

    def __init__(self, threads: int) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        source = str(Path(planner.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        self.control, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "planner.run.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)},
            )
        self.pid = self._child.pid

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended, or does within ``patience_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(patience_s)
        return self._child.poll() is not None

    def kill(self) -> None:
        """Ends it at once."""
        self._child.kill()
        self._child.wait()

    def last_words(self) -> str:
        """Its exit code and the last line it printed."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = [f"exit code {self._child.returncode}"] if self.ended() else []
        return ": ".join(said + lines[-1:])

    def close(self) -> None:
        """Gives up its connection and its log."""
        self.control.close()
        self._log.close()


class Here:
    """The coordinator's host: workers are child processes, and every port is reached directly."""

    host = ""

    def start(self, threads: int) -> LocalProcess:
        """A child process."""
        return LocalProcess(threads)

    def port_to(self, other: Place, port: int) -> int:
        """A way from the coordinator, which is here."""
        return other.port_from_home(port)

    def port_from_home(self, port: int) -> int:
        """The same port."""
        return port
