"""Node: the daemon that lends a machine to the coordinators of its deployment.

It faces the network, holds the keys and decides; workers compute in processes of their own that
see the loopback interface only. Every connection asks for one thing (``messages``), gets it or a
refusal, and is bounded in time, size and number.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planner.core.errors import PlannerError, RunError
from planner.run import tls
from planner.run.bearing import Bearing
from planner.run.frames import FrameError, PeerLostError
from planner.run.identity import Keys
from planner.run.limits import Limits, QuotaError, Usage
from planner.run.messages import (
    ANSWER,
    REQUEST,
    Begun,
    Blob,
    Code,
    Deliver,
    Fetch,
    Lead,
    Message,
    Opened,
    Prepare,
    Prepared,
    Progress,
    Refusal,
    Return,
    Source,
    Work,
)
from planner.run.places import Here
from planner.run.relay import splice
from planner.run.sources import NoBlobError, Sources
from planner.run.store import BadDigestError, Store
from planner.run.stream import HELLO_S, Stream, call, receive
from planner.run.transport import LOOPBACK
from planner.run.warrant import Signed, Warrant, WarrantError, check

_LOG = logging.getLogger(__name__)
_ACCEPT_S = 30.0
"""How long a port that was handed out waits for its one caller."""
_DATA_S = 30.0
"""How long a sender of weights may be silent."""
_PROGRESS_S = 0.2
_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Compute:
    """What workers of a node compute with."""

    threads: int
    device: str = "cpu"


@dataclass(slots=True)
class Lease:
    """What a coordinator may have this node do: its warrant and the weights for it."""

    warrant: Warrant
    directory: Path


@dataclass(slots=True)
class Node:
    """One machine; ``keys`` is None for a daemon that only its own host can reach."""

    keys: Keys | None
    store: Store
    compute: Compute
    limits: Limits = field(default_factory=Limits)
    usage: Usage = field(init=False)
    _leases: dict[str, Lease] = field(default_factory=dict)
    _ports: set[int] = field(default_factory=set)
    """Where workers of this node let callers in."""
    _strangers: threading.BoundedSemaphore = field(init=False)
    _context: ssl.SSLContext | None = field(init=False)

    def __post_init__(self) -> None:
        self.usage = Usage(self.limits)
        self._context = tls.server_context(self.keys) if self.keys else None
        self._strangers = threading.BoundedSemaphore(self.limits.strangers)

    def serve(self, listener: socket.socket) -> None:
        """Takes connections until the listener is closed."""
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.EINVAL):  # it was closed
                    return
                _LOG.warning("nobody is let in now: %s", error)  # out of descriptors, say
                time.sleep(_PAUSE_S)
                continue
            if not self._strangers.acquire(blocking=False):
                sock.close()
                continue
            try:
                threading.Thread(target=self._meet, args=(sock,), daemon=True).start()
            except RuntimeError as error:  # no more threads now
                _LOG.warning("nobody is let in now: %s", error)
                self._strangers.release()
                sock.close()

    def _meet(self, sock: socket.socket) -> None:
        """Finds out who connected, then does what it asks for."""
        try:
            stream = self._receive(sock)
        except PlannerError as error:
            _LOG.warning("turned away: %s", error.message)
            return
        finally:
            self._strangers.release()
        who = stream.peer.id if stream.peer else ""
        try:
            self.usage.begin(who)
            with self.usage.one("streams", who, self.limits.streams):
                self._serve(stream, who)
        except _REFUSALS as error:
            _LOG.warning("refused %s: %s", who or "this host", error.message)
            with contextlib.suppress(PeerLostError):
                stream.send(Refusal(refused=_code(error)))
        except Exception:
            _LOG.exception("a bug, met by a request of %s", who)
        finally:
            stream.close()

    def _receive(self, sock: socket.socket) -> Stream:
        if self.keys is None or self._context is None:
            return Stream(sock, None)
        return receive(sock, self.keys, self._context)

    def _serve(self, stream: Stream, who: str) -> None:
        request = stream.read(REQUEST, HELLO_S)
        _LOG.info("%s: %s", who or "this host", request.what)
        if isinstance(request, Deliver):
            self._deliver(stream, request.port)
        elif isinstance(request, Fetch):
            self._give(stream, request)
        elif stream.peer is not None and stream.peer.role != "coordinator":
            raise NotAllowedError(f"{who} is no coordinator")
        elif isinstance(request, Prepare):
            self._prepare(stream, request, who)
        elif isinstance(request, Work):
            self._work(stream, who)
        elif isinstance(request, Return):
            self._return(stream)
        else:
            self._lead(stream, request)

    def _work(self, stream: Stream, who: str) -> None:
        """A worker of its own for a coordinator, for as long as the connection lasts."""
        lease = self._leases.get(who)
        if lease is None:
            raise NotAllowedError(f"{who} has shown no warrant")
        with self.usage.one("workers", who, self.limits.workers):
            process = Here().start(self.compute.threads)
            name = self.keys.me.id if self.keys else None
            secret = self.keys.secret if self.keys else None
            bearing = Bearing(lease, name, self.compute, self.limits, self._ports, secret)
            try:
                stream.send(Begun())
                splice(stream.sock, process.control, bearing.order, bearing.answer)
            finally:
                bearing.end()
                process.kill()
                process.close()
        _LOG.info("%s: a worker ended", who or "this host")

    def _deliver(self, stream: Stream, port: int) -> None:
        if port not in self._ports:
            raise NoPortError(f"no worker lets callers in at port {port}")
        try:
            inner = socket.create_connection((LOOPBACK, port), timeout=tls.CONNECT_S)
        except OSError:
            raise NoPortError(f"nobody answers at port {port}") from None
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.send(Begun())
        splice(stream.sock, inner)

    def _return(self, stream: Stream) -> None:
        with _one_caller() as listener:
            stream.send(Opened(port=listener.getsockname()[1]))
            inner = _caller(listener)
        splice(stream.sock, inner)

    def _lead(self, stream: Stream, request: Lead) -> None:
        """The way to another node is made first, so that a port that is told leads there."""
        try:
            onward = reach(request.to, request.port, self.keys)
        except RunError as error:
            raise tls.RefusedError(f"{request.to.node}: {error.message}") from None
        try:
            with _one_caller() as listener:
                stream.send(Opened(port=listener.getsockname()[1]))
                stream.close()
                inner = _caller(listener)
        except BaseException:
            onward.close()
            raise
        splice(onward.sock, inner)

    def _prepare(self, stream: Stream, request: Prepare, who: str) -> None:
        signed = Signed(request.warrant, request.signature)
        if self.keys is None:
            warrant = Warrant.model_validate_json(request.warrant)
            mine = list(warrant.assignments)
        else:
            warrant = check(signed, self.keys, self.store.epoch(self.keys.me.deployment))
            self.store.note_epoch(warrant.deployment, warrant.epoch)
            mine = warrant.of(self.keys.me.id)
        if not mine:
            raise NotAllowedError("the warrant gives this node nothing to do")
        begun_s = told_s = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal told_s
            if time.monotonic() - told_s > _PROGRESS_S:
                told_s = time.monotonic()
                stream.send(Progress(done_bytes=done, total_bytes=total))

        sources = Sources(list(request.sources), stream, self.keys)
        ranges = [(one.start, one.stop) for one in mine]
        if request.ranges is not None:
            ranges = [one for one in ranges if one in request.ranges]
        wanted = (warrant.weights, ranges, request.checkpoint, sources.fetch, progress)
        try:
            ready = self.store.ready(*wanted)
        except BadDigestError:
            if not sources.others:
                raise
            sources.others.clear()  # one of them gave something else: none is believed
            ready = self.store.ready(*wanted)
        self._leases[who] = Lease(warrant, ready.directory)
        took_s = time.monotonic() - begun_s
        stream.send(
            Prepared(found_bytes=ready.found_bytes, pulled_bytes=ready.pulled_bytes, seconds=took_s)
        )

    def _give(self, stream: Stream, request: Fetch) -> None:
        try:
            size_bytes, chunks = self.store.open(request.digest)
        except RunError as error:
            raise NoBlobError(error.message) from None
        stream.send(Blob(size=size_bytes))
        try:
            for chunk in chunks(request.offset):
                stream.send_bytes(chunk, _DATA_S)
        except (RunError, OSError) as error:  # a refusal would be taken for weights now
            _LOG.warning("weights broke off: %s", error)


class NotAllowedError(RunError):
    """A member asks for what it may not have."""


class NoPortError(RunError):
    """A port that no worker of this node answers at."""


def reach(to: Source, port: int, keys: Keys | None) -> Stream:
    """A stream that leads to a worker's port on another node; raises RunError."""
    stream = call(to, keys)
    try:
        stream.send(Deliver(what="deliver", port=port))
        answer: Message = stream.read(ANSWER, tls.CONNECT_S)
    except BaseException:
        stream.close()
        raise
    if not isinstance(answer, Begun):
        stream.close()
        raise RunError(f"node {to.node} does not lead to a worker at its port {port}")
    return stream


@contextlib.contextmanager
def _one_caller() -> Iterator[socket.socket]:
    """A port of the loopback interface."""
    with socket.create_server((LOOPBACK, 0), backlog=1) as listener:
        listener.settimeout(_ACCEPT_S)
        yield listener


def _caller(listener: socket.socket) -> socket.socket:
    try:
        sock, _ = listener.accept()
    except TimeoutError:
        raise PeerLostError("nobody came to a port that was asked for") from None
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


_CODES: dict[type[PlannerError], Code] = {
    FrameError: "bad_message",
    NotAllowedError: "not_allowed",
    NoPortError: "no_such_port",
    NoBlobError: "no_such_blob",
    QuotaError: "over_quota",
    BadDigestError: "bad_digest",
    tls.RefusedError: "unreachable",
}
_REFUSALS = (PlannerError,)


def _code(error: PlannerError) -> Code:
    """What a peer is told; the words stay here."""
    if isinstance(error, WarrantError):
        return error.code
    return _CODES.get(type(error), "failed")
