"""Relay: carries bytes between a connection of the network and one of this host.

The process that computes never sees the network or a key, and the one that holds the keys never
computes. One thread serves both directions, because a TLS connection may be used by one at a time.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from planner.run.frames import HEAD_BYTES, FrameError, length_of

_CHUNK_BYTES = 2**16
_AHEAD_BYTES = 2**20
"""Most that is held for a side that does not take it; the other side then waits."""
_FLUSH_S = 2.0

Inspect = Callable[[bytes], bytes]
"""Takes what came and gives what goes on; raises FrameError to end the connection."""


def splice(
    outer: socket.socket,
    inner: socket.socket,
    inward: Inspect | None = None,
    outward: Inspect | None = None,
) -> None:
    """Carries bytes both ways until one side ends, then closes both.

    ``inward`` and ``outward`` see what comes from outside and inside before it goes on.
    """
    outside, inside = _Side(outer), _Side(inner)
    try:
        for side in (outside, inside):
            side.sock.setblocking(False)
        while not (outside.ended or inside.ended):
            _wait(outside, inside)
            _carry(outside, inside, inward)
            _carry(inside, outside, outward)
        _flush(inside if outside.ended else outside)
    except (OSError, FrameError):
        pass  # whoever is at the other side sees that it ended
    finally:
        for side in (outside, inside):
            with contextlib.suppress(OSError):
                side.sock.close()


@dataclass(slots=True)
class _Side:
    """One connection and what is still to be sent on it."""

    sock: socket.socket
    due: bytearray = field(default_factory=bytearray)
    ended: bool = False
    wants_write: bool = False
    """Whether TLS has to write before it can read."""


def _wait(one: _Side, other: _Side) -> None:
    """Until a side can do something."""
    if any(isinstance(s.sock, ssl.SSLSocket) and s.sock.pending() for s in (one, other)):
        return
    poll = select.poll()
    for side, opposite in ((one, other), (other, one)):
        events = select.POLLIN if len(opposite.due) < _AHEAD_BYTES else 0
        if side.due or side.wants_write:
            events |= select.POLLOUT
        poll.register(side.sock, events)
    poll.poll()


def _carry(source: _Side, target: _Side, inspect: Inspect | None) -> None:
    """Takes what has come from one side and gives the other what it accepts."""
    source.wants_write = False
    data = b""
    if len(target.due) < _AHEAD_BYTES:
        try:
            data = source.sock.recv(_CHUNK_BYTES)
            source.ended = not data
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except ssl.SSLWantWriteError:
            source.wants_write = True
    if data and inspect:
        data = inspect(data)
    if not target.due:
        data = data[_taken(target, data) :]
    target.due += data
    if target.due:
        del target.due[: _taken(target, bytes(target.due))]


def _taken(side: _Side, data: bytes) -> int:
    """How many bytes a side takes without waiting."""
    try:
        return side.sock.send(data) if data else 0
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return 0


def _flush(side: _Side) -> None:
    """Gives the side that is left what was meant for it, within a deadline."""
    until_s = time.monotonic() + _FLUSH_S
    while side.due and (left_s := until_s - time.monotonic()) > 0:
        poll = select.poll()
        poll.register(side.sock, select.POLLOUT)
        poll.poll(left_s * 1e3)
        del side.due[: _taken(side, bytes(side.due))]


class Frames:
    """Cuts a stream of bytes into frames and lets ``judge`` see each before it goes on."""

    def __init__(self, judge: Callable[[bytes], bytes], limit_bytes: int) -> None:
        self._judge, self._limit_bytes = judge, limit_bytes
        self._held = bytearray()

    def __call__(self, data: bytes) -> bytes:
        """What may go on of ``data`` and what was held before; raises FrameError."""
        self._held += data
        passed = []
        while len(self._held) >= HEAD_BYTES:
            length = length_of(self._held[:HEAD_BYTES], self._limit_bytes)
            if len(self._held) < length:
                break
            passed.append(self._judge(bytes(self._held[:length])))
            del self._held[:length]
        return b"".join(passed)
