"""Mailbox: what other threads want of a session, and the bell that wakes it."""

from __future__ import annotations

import contextlib
import queue
import socket
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Messages from any thread to the one that selects on ``bell``."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._ring: socket.socket | None = None

    def put(self, message: T) -> None:
        """Leaves a message; whoever has the bell wakes up."""
        self._messages.put(message)
        if self._ring is not None:
            with contextlib.suppress(OSError):  # rung often enough, or nobody listens any more
                self._ring.send(b"!", socket.MSG_DONTWAIT)

    @contextlib.contextmanager
    def bell(self) -> Iterator[socket.socket]:
        """A socket that is readable while there are messages, old ones included."""
        heard, ring = socket.socketpair()
        with heard, ring:
            self._ring = ring
            if not self._messages.empty():
                ring.send(b"!", socket.MSG_DONTWAIT)
            yield heard

    def take(self, bell: socket.socket) -> list[T]:
        """All messages, oldest first; the bell is still after that."""
        bell.recv(2**16)
        return [self._messages.get() for _ in range(self._messages.qsize())]
