"""Workers that do not do what they sign for, and the places that tests start them at.

Run as ``python -m tests.run.cheats FD HOW``; planner itself has no such switch.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.run.checkpoint import Checkpoint
from planner.run.downgrade import DOWNGRADES, OTHERS
from planner.run.frames import Frame, Kind
from planner.run.places import Here
from planner.run.separation import downgraded
from planner.run.testimony import Testimony
from planner.run.worker import StageWorker

LINK = ("altered-prompt", "altered-byte", "altered-token")
SIGNATURES = ("withheld", "replayed")


class Cheat(StageWorker):
    """A worker with other weights, or one that alters what goes through it or what it signs."""

    def __init__(self, control: socket.socket, how: str) -> None:
        super().__init__(control)
        self._how = how
        self._testimony = Testimony(self._sign)
        self._first = ""
        if how in LINK:
            honest = self._outlet.send
            self._outlet.send = lambda frame: honest(self._altered(frame))  # type: ignore[method-assign]

    def _open(self, order: dict[str, Any]) -> Checkpoint:
        opened = super()._open(order)
        if self._how in (*DOWNGRADES, *OTHERS):
            return downgraded(opened, self._how, order["start"])
        return opened

    def _check(self, frame: Frame) -> None:
        super()._check(frame)
        if self._how == "altered-prompt" and frame.kind is Kind.PREFILL and not frame.replay:
            memoryview(frame.payload).cast("B")[8] ^= 1

    def _altered(self, frame: Frame) -> Frame:
        """What goes on, after it was hashed, with one bit of its last row turned."""
        if self._how == "altered-prompt" or frame.kind is Kind.PREFILL:
            return frame
        payload = bytearray(memoryview(frame.payload).cast("B"))
        payload[-2 if frame.kind is not Kind.TOKENS else -4] ^= 1
        return frame._replace(payload=payload)

    def _sign(self, message: dict[str, Any]) -> None:
        if self._how == "withheld" and "closed" in message:
            message = message | {"line": None}
        if self._how == "replayed" and "closed" in message:
            message = message | {"line": self._first}
        if "receipt" in message and not self._first:
            self._first = message["receipt"]
        self._tell(message)


class Started:
    """A cheat's process."""

    def __init__(self, how: str) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.control, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.run.cheats", str(theirs.fileno()), how],
                pass_fds=[theirs.fileno()],
                stdout=self._log,
                stderr=self._log,
                cwd=Path(__file__).parents[2],
            )

    def ended(self, patience_s: float = 0.0) -> bool:
        try:
            self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def strike(self, hangs: bool = False) -> None:
        self.kill()

    def last_words(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()[-300:]

    def close(self) -> None:
        self.control.close()
        self._log.close()


@dataclass
class CheatingPlace(Here):
    """A place whose workers cheat."""

    how: str

    def start(self, threads: int) -> Started:  # type: ignore[override]
        return Started(self.how)


def main() -> None:
    from planner.run import worker

    how = sys.argv[2]
    made: Callable[[socket.socket], StageWorker] = lambda control: Cheat(control, how)  # noqa: E731
    worker.StageWorker = made  # type: ignore[assignment, misc]
    worker.main(int(sys.argv[1]))


if __name__ == "__main__":
    main()
