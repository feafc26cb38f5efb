"""Peers: what lies between two hosts, measured over the connections that a run would use.

One host listens, the other asks. A listener does nothing but echo, swallow and produce bytes for
at most a few seconds a time, and takes no frame larger than it asked for.
"""

from __future__ import annotations

import math
import socket
import statistics
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from planner.core.errors import RunError
from planner.core.metrics import percentile
from planner.run.frames import (
    Frame,
    Kind,
    PeerLostError,
    control,
    encode,
    read_control,
    read_frame,
    send_all,
)

STREAMS = 8
"""Connections of the parallel measurement."""

_ECHOES, _FIRST_ECHOES = 100, 5
_ECHO_S, _FLOW_S, _SETTLE_S = 5.0, 2.0, 0.6
_MOST_S, _IDLE_S = 10.0, 15.0
_MESSAGE_BYTES, _CHUNK_BYTES = 4096, 64 * 1024
_MOST_CONNECTIONS = 4 * STREAMS
_TCP_INFO_BYTES, _RETRANS_AT, _SEGMENTS_AT = 144, 100, 136
"""Where Linux keeps total_retrans and segs_out (struct tcp_info, linux/tcp.h)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Bytes per second in one direction, once connections are up to speed."""

    single_bytes_per_s: float
    parallel_bytes_per_s: float
    """Over several connections together."""
    loss: float | None
    """Share of segments that were sent again; None where the system does not tell."""


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """What lies between this host and a peer."""

    peer: str
    round_trip_s: tuple[float, ...]
    """Of small messages, in rising order."""
    there: Flow
    back: Flow

    def quantile_s(self, percent: float) -> float:
        """A percentile of the round trip."""
        return percentile(self.round_trip_s, percent)

    @property
    def jitter_s(self) -> float:
        """Standard deviation of the one-way latency, both ways varying alike on their own."""
        return statistics.pstdev(self.round_trip_s) / math.sqrt(2)


class PeerListener:
    """Answers measurements of other hosts until it is closed."""

    def __init__(self, host: str, port: int) -> None:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._sock = socket.create_server((host, port), family=family)
        except OSError as error:
            raise RunError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        self._free = threading.Semaphore(_MOST_CONNECTIONS)

    @property
    def port(self) -> int:
        """Port it listens on."""
        port: int = self._sock.getsockname()[1]
        return port

    def serve(self) -> None:
        """Answers everybody who comes, each on a thread of its own, until ``close``."""
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            if not self._free.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _answer(self, sock: socket.socket) -> None:
        try:
            with sock:
                _prepare(sock)
                while True:
                    _obey(sock, read_control(sock, _MESSAGE_BYTES))
        except (RunError, OSError, TypeError, ValueError):
            pass  # whoever speaks no such protocol, or went away, is left alone
        finally:
            self._free.release()


def measure_link(host: str, port: int) -> MeasuredLink:
    """Measures round trips and both directions to a listening peer, in about ten seconds.

    Raises RunError where nobody listens or the peer goes away.
    """
    with _connected(host, port) as sock:
        round_trips = _round_trips_s(sock)
    flows = []
    for flow in (_there, _back):
        single, retransmitted = flow(host, port)
        with ThreadPoolExecutor(STREAMS) as pool:
            parallel = list(pool.map(lambda _, flow=flow: flow(host, port), range(STREAMS)))
        flows.append(Flow(single, sum(rate for rate, _ in parallel), retransmitted))
    return MeasuredLink(f"{host}:{port}", tuple(sorted(round_trips)), flows[0], flows[1])


def _obey(sock: socket.socket, asked: dict[str, Any]) -> None:
    """Does what a message asks for."""
    if asked.get("do") == "echo":
        send_all(sock, encode(control({"echo": True})))
    elif asked.get("do") == "take":
        send_all(sock, encode(control({"bytes_per_s": _take(sock)[0]})))
    elif asked.get("do") == "give":
        _give(sock, min(_MOST_S, float(asked["seconds"])))
    else:
        raise RunError("a peer asked for something unknown")


def _round_trips_s(sock: socket.socket) -> list[float]:
    taken_s: list[float] = []
    begun_s = time.perf_counter()
    while len(taken_s) < _ECHOES + _FIRST_ECHOES and time.perf_counter() - begun_s < _ECHO_S:
        start_s = time.perf_counter()
        send_all(sock, encode(control({"do": "echo"})))
        read_control(sock, _MESSAGE_BYTES)
        taken_s.append(time.perf_counter() - start_s)
    return taken_s[_FIRST_ECHOES:] or taken_s


def _there(host: str, port: int) -> tuple[float, float | None]:
    """Bytes per second towards the peer, as the peer sees it, and the loss."""
    with _connected(host, port) as sock:
        send_all(sock, encode(control({"do": "take"})))
        _give(sock, _FLOW_S)
        told = read_control(sock, _MESSAGE_BYTES).get("bytes_per_s")
        if not isinstance(told, (int, float)) or told <= 0:
            raise RunError(f"{host}:{port} measured nothing")
        return float(told), _loss(sock)


def _back(host: str, port: int) -> tuple[float, float | None]:
    """Bytes per second from the peer, and the loss it saw."""
    with _connected(host, port) as sock:
        send_all(sock, encode(control({"do": "give", "seconds": _FLOW_S})))
        rate, end = _take(sock)
        loss = end.get("loss")
        return rate, float(loss) if isinstance(loss, (int, float)) else None


def _give(sock: socket.socket, seconds: float) -> None:
    """Sends for a while, then says that it is done."""
    chunk = Frame(Kind.PREFILL, 0, (), "bytes", 1, _CHUNK_BYTES, bytes(_CHUNK_BYTES))
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        send_all(sock, encode(chunk))
    send_all(sock, encode(control({"done": True, "loss": _loss(sock)})))


def _take(sock: socket.socket) -> tuple[float, dict[str, Any]]:
    """Bytes per second of what comes once the connection is up to speed, and the last word."""
    first_s = time.monotonic()
    settled_s, last_s, whole, size = 0.0, first_s, 0.0, 0.0
    while (frame := read_frame(sock, _CHUNK_BYTES)).kind is not Kind.CONTROL:
        last_s = time.monotonic()
        if last_s - first_s > _MOST_S + _IDLE_S:
            raise RunError("a peer sends without end")
        whole += len(frame.payload)
        if settled_s:
            size += len(frame.payload)
        elif last_s - first_s >= _SETTLE_S:
            settled_s = last_s
    if size and last_s > settled_s:
        return size / (last_s - settled_s), frame.message
    return whole / max(1e-9, last_s - first_s), frame.message


def _loss(sock: socket.socket) -> float | None:
    """Share of the segments sent on a connection that were sent again; None if unknown."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    if len(told) < _SEGMENTS_AT + 4:
        return None
    again = int(struct.unpack_from("=I", told, _RETRANS_AT)[0])
    sent = int(struct.unpack_from("=I", told, _SEGMENTS_AT)[0])
    return again / sent if sent else None


def _connected(host: str, port: int) -> socket.socket:
    try:
        return _prepare(socket.create_connection((host, port), timeout=_IDLE_S))
    except OSError as error:
        raise PeerLostError(
            f"nobody answers at {host}:{port}: {error.strerror or error}",
            f"start planner probe --listen 0.0.0.0:{port} there first",
        ) from None


def _prepare(sock: socket.socket) -> socket.socket:
    sock.settimeout(_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
