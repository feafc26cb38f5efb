"""Connections between processes: who may connect, what is sent when.

Connections are TCP on the loopback interface and open with a shared secret. ``connect`` and
``Listener.accept`` are the only places that make sockets, so encryption belongs there.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from planner.core.cost.transfer import ramp_s
from planner.core.rng import stream
from planner.run.frames import (
    Frame,
    FrameError,
    Kind,
    PeerLostError,
    control,
    encode,
    read_control,
    send_all,
    send_some,
)

LOOPBACK = "127.0.0.1"
_HELLO_LIMIT_BYTES = 4096
"""Most bytes taken from somebody who has not shown the secret yet."""
_HELLO_S = 5.0
_MOST_STRANGERS = 64
"""Connections at once that have not shown the secret."""
_PAUSE_S = 0.05
_AT_ONCE_S = 50e-6
"""What is due sooner is sent at once: waking a thread would take longer."""
_MAX_LATE_S = 1e-3
_WATCHFULNESS = {
    "TCP_KEEPIDLE": 1,
    "TCP_KEEPINTVL": 1,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 4000,
}
"""Seconds, seconds, probes and milliseconds after which a silent peer counts as gone. Keepalive
sees it while nothing is under way, the user timeout while sent data is not acknowledged."""


@dataclass(frozen=True, slots=True)
class LinkShape:
    """A wide-area link to be imitated, in one direction."""

    one_way_latency_s: float
    bytes_per_s: float
    jitter_s: float = 0.0
    """Standard deviation of the latency."""
    seed: int = 0
    relay_s: float = 0.0
    """Software on the way, the same for every message."""
    initial_window_bytes: float | None = None
    """What is sent before the first acknowledgement; None for a connection that stays warm."""


class ShapedLine:
    """When messages leave a shaped link: one after the other at its rate, then a delay.

    The same rule as the cost model's: the line is busy for bytes / rate, in order of arrival;
    propagation overlaps. Jitter never reorders.
    """

    def __init__(self, shape: LinkShape) -> None:
        self._shape = shape
        self._draws = stream(shape.seed, "jitter")
        self._free_s = 0.0
        self._last_s = 0.0
        self._prompt_bytes = 0
        """Of a prompt that has begun to pass in chunks."""

    def due_s(self, now_s: float, size_bytes: int, kind: Kind = Kind.DECODE) -> float:
        """When a message handed over at ``now_s`` reaches the other end; prompts ramp up."""
        shape = self._shape
        self._free_s = max(now_s, self._free_s) + size_bytes / shape.bytes_per_s
        if kind in (Kind.CHUNK, Kind.PREFILL):
            before_bytes = self._prompt_bytes
            self._free_s += self._ramp_s(before_bytes + size_bytes) - self._ramp_s(before_bytes)
            self._prompt_bytes = before_bytes + size_bytes if kind is Kind.CHUNK else 0
        delay_s = shape.one_way_latency_s
        if shape.jitter_s:
            delay_s = max(0.0, self._draws.gauss(delay_s, shape.jitter_s))
        self._last_s = max(self._last_s, self._free_s + delay_s + shape.relay_s)
        return self._last_s

    def _ramp_s(self, size_bytes: int) -> float:
        """What slow start adds to so many bytes on a connection that was idle (s)."""
        shape = self._shape
        round_trip_s = 2 * shape.one_way_latency_s
        return ramp_s(size_bytes, shape.initial_window_bytes, round_trip_s, shape.bytes_per_s)


class Channel:
    """The sending end of a connection: hands frames to a thread, so nobody waits for a link.

    A message on a shaped link is held back until it is due and then sent at full speed. One that
    is due now goes out on the caller's thread, as far as the system takes it without waiting.
    """

    def __init__(
        self,
        sock: socket.socket,
        shape: LinkShape | None = None,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        """``broken`` is called when what was queued could not be sent."""
        self._sock, self._broken = sock, broken
        self._line = ShapedLine(shape) if shape else None
        self._queue: queue.SimpleQueue[tuple[float, list[memoryview]] | None] = queue.SimpleQueue()
        self._queued = self._sent = 0
        self._late_s = 0.0
        self._lost: PeerLostError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, frame: Frame) -> None:
        """Sends or queues a frame; raises PeerLostError if an earlier one could not be sent.

        One thread at a time may call this. Memory is bounded by the caller: a pipeline has no
        more jobs under way than seats.
        """
        if self._lost:
            raise self._lost
        parts = encode(frame)
        now_s = due_s = time.monotonic()
        if self._line:
            due_s = self._line.due_s(now_s, sum(map(len, parts)), frame.kind)
        if due_s - now_s < _AT_ONCE_S and self._queued == self._sent:
            parts = send_some(self._sock, parts)
        if parts:
            self._queued += 1
            self._queue.put((due_s, parts))

    @property
    def pending(self) -> int:
        """Messages that wait to be sent; raises PeerLostError if one could not be."""
        if self._lost:
            raise self._lost
        return self._queued - self._sent

    def close(self) -> None:
        """Sends what is queued, then closes the connection."""
        self._queue.put(None)
        self._thread.join(timeout=1.0)
        self._sock.close()

    def abandon(self) -> None:
        """Closes the connection at once, whatever is queued or stuck in it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._queue.put(None)
        self._sock.close()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._wait_until(item[0])
            try:
                send_all(self._sock, item[1])
            except PeerLostError as error:
                self._lost = error
                self._broken()
                return
            self._sent += 1

    def _wait_until(self, due_s: float) -> None:
        """Sleeps, less what sleeping has been late by of late."""
        wake_s = due_s - self._late_s
        early_s = wake_s - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
            late_s = min(_MAX_LATE_S, time.monotonic() - wake_s)
            self._late_s += 0.1 * (late_s - self._late_s)


class Listener:
    """Accepts connections that know the secret; one that says nothing keeps nobody waiting."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._sock = socket.create_server((LOOPBACK, 0))
        self._known: queue.SimpleQueue[tuple[socket.socket, str]] = queue.SimpleQueue()
        self._strangers = threading.BoundedSemaphore(_MOST_STRANGERS)
        threading.Thread(target=self._meet_all, daemon=True).start()

    @property
    def port(self) -> int:
        """Port it listens on, picked by the system."""
        port: int = self._sock.getsockname()[1]
        return port

    def accept(self, timeout_s: float | None) -> tuple[socket.socket, str]:
        """The next connection and the name it gives; others are dropped. Raises TimeoutError."""
        try:
            return self._known.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError("nobody came who knows the secret") from None

    def close(self) -> None:
        """Stops listening."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        while not self._known.empty():
            self._known.get()[0].close()

    def _meet_all(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):  # it was closed
                    return
                time.sleep(_PAUSE_S)
                continue
            if not self._strangers.acquire(blocking=False):
                sock.close()
                continue
            try:
                threading.Thread(target=self._meet, args=(sock,), daemon=True).start()
            except RuntimeError:  # no more threads now
                self._strangers.release()
                sock.close()

    def _meet(self, sock: socket.socket) -> None:
        """Finds out whether a caller knows the secret; closes the connection if it does not."""
        try:
            sock.settimeout(_HELLO_S)
            hello = read_control(sock, _HELLO_LIMIT_BYTES)
            said = str(hello.get("secret", "")).encode()
            if hmac.compare_digest(said, self._secret.encode()):
                self._known.put((_prepared(sock), str(hello.get("name", ""))))
            else:
                sock.close()
        except (FrameError, PeerLostError, OSError):
            sock.close()
        finally:
            self._strangers.release()


def connect(port: int, secret: str, name: str) -> socket.socket:
    """A connection to a listener on this host; raises PeerLostError."""
    try:
        sock = _prepared(socket.create_connection((LOOPBACK, port), timeout=10))
    except OSError as error:
        raise PeerLostError(f"nobody listens on port {port}: {error}") from None
    send_all(sock, encode(control({"secret": secret, "name": name})))
    return sock


def _prepared(sock: socket.socket) -> socket.socket:
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _WATCHFULNESS.items():
        if hasattr(socket, name):  # Linux has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
