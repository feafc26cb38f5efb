"""Outlet: where a stage's results leave it, and what is kept of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from planner.run.frames import Frame, Kind, PeerLostError
from planner.run.history import Cached, History
from planner.run.transport import Channel, Listener


class Outlet:
    """The way to the next process, which may be replaced while the stage computes.

    Jobs older than the fence belong to an attempt that was given up: what comes of them is
    dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._broken: Callable[[], None] = lambda: None
        self._fence = 0
        self._history = History()

    def lead(self, channel: Channel, fence: int, broken: Callable[[], None]) -> None:
        """Sends through ``channel`` from now on, and nothing of jobs before ``fence``.

        ``broken`` is called when the channel turns out to lead nowhere.
        """
        with self._lock:
            if self._channel is not None:
                self._channel.abandon()
            self._channel, self._fence, self._broken = channel, fence, broken

    def current(self, frame: Frame) -> bool:
        """Whether a frame still counts."""
        return frame.replay or frame.job >= self._fence

    def send(self, frame: Frame) -> None:
        """Keeps a result and sends it on, unless it is of no use any more."""
        with self._lock:
            if not self.current(frame):
                return
            if frame.kind is not Kind.TOKENS:
                self._history.note(frame)
            if not frame.replay:
                self._pass(frame)

    def replay(self, live: Iterable[Cached], as_sent: bool) -> int:
        """Sends what the next stage should hold once more; how many frames that were."""
        with self._lock:
            frames = self._history.replay(live, as_sent)
            for frame in frames:
                self._pass(frame)
        return len(frames)

    def close(self) -> None:
        """Sends what is queued and closes."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def _pass(self, frame: Frame) -> None:
        try:
            if self._channel is not None:
                self._channel.send(frame)
        except PeerLostError:
            self._broken()


@dataclass(slots=True)
class Line:
    """The coordinator's two ends of a pipeline."""

    outlet: Outlet
    listener: Listener
    jobs: socket.socket | None = None
    """Where jobs go in: can be read only once it is broken."""
    tokens: socket.socket | None = None
    epoch: int = 0
    """Which set of connections is in use: every one has a higher number."""
