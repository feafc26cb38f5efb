"""Remote: nodes of other machines as places that workers run at, seen from the coordinator.

The coordinator only calls and is never called, so it can be anywhere: a way back to it is a
connection that it made itself.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from planner.core.errors import RunError
from planner.run.blobs import Part, Pieces, Recipe
from planner.run.frames import PeerLostError
from planner.run.identity import Keys
from planner.run.messages import (
    ANSWER,
    PREPARING,
    Begun,
    Blob,
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
from planner.run.node import reach
from planner.run.places import Place, UnreachableError
from planner.run.relay import splice
from planner.run.stream import DeniedError, Stream, call, granted
from planner.run.transport import LOOPBACK
from planner.run.warrant import Signed

_ANSWER_S = 30.0
_SILENT_S = 60.0
"""How long a node that gets its weights ready may say nothing; it tells how far it is."""
_DATA_S = 30.0
_CHUNK_BYTES = 2**16
_OTHERS = ("unreachable", "no_such_port")
"""Refusals that are about a third party."""


@dataclass(frozen=True, slots=True)
class Supplies:
    """What the coordinator can give: the list of pieces, and pieces if it has the checkpoint."""

    pieces: Pieces
    recipes: dict[str, Recipe]
    """By the piece's name."""

    def find(self, digest: str) -> Recipe | None:
        """How to make the blob of a digest."""
        if digest == self.pieces.digest:
            return Recipe((Part(None, 0, len(self.pieces.text), self.pieces.text),))
        return next(
            (self.recipes.get(one.name) for one in self.pieces.blobs if one.digest == digest), None
        )


@dataclass(frozen=True, slots=True)
class Provision:
    """What nodes are asked to get ready for."""

    signed: Signed
    supplies: Supplies
    checkpoint: str
    """Name of the checkpoint to look for in a node's weights root."""


class RemoteProcess:
    """A worker on another machine; it ends when the connection to it does."""

    def __init__(self, lead: Callable[[socket.socket], str], kill_s: float = 0.0) -> None:
        """``lead`` passes on what is said, and says at the end why it ended.

        A kill waits ``kill_s`` for that end.
        """
        self.control, inner = socket.socketpair()
        self._why, self._kill_s = "", kill_s
        self._thread = threading.Thread(target=self._run, args=(lead, inner), daemon=True)
        self._thread.start()

    def _run(self, lead: Callable[[socket.socket], str], inner: socket.socket) -> None:
        with contextlib.closing(inner):
            self._why = lead(inner)

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether the connection has ended, or does within ``patience_s``."""
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """Ends the connection, upon which the node ends the worker."""
        with contextlib.suppress(OSError):
            self.control.shutdown(socket.SHUT_RDWR)
        self._thread.join(self._kill_s)

    def strike(self, hangs: bool) -> None:
        """Rehearses its loss; a worker elsewhere cannot be made to hang."""
        self.kill()

    def last_words(self) -> str:
        """Why it never started, or that the way to it is gone: the rest is in the node's log."""
        return self._why

    def close(self) -> None:
        """Gives up the connection."""
        self.control.close()


class RemotePlace:
    """A node of the inventory."""

    def __init__(self, source: Source, keys: Keys | None) -> None:
        self.source, self.host, self._keys = source, source.node, keys
        self._prepared: tuple[Provision, tuple[Source, ...]] | None = None
        self._ranges: tuple[tuple[int, int], ...] | None = None
        """Layers whose weights are there; None for all that the warrant gives the node."""
        self.signer: str | None = None
        """Public key that workers there sign receipts with (hex), once one has started."""

    def prepare(
        self,
        order: Provision,
        others: tuple[Source, ...] = (),
        progress: Callable[[int, int], None] = lambda done, total: None,
        ranges: tuple[tuple[int, int], ...] | None = None,
    ) -> Prepared:
        """Has the node get its weights ready, from here if need be; raises RunError.

        Those of some ``ranges`` of layers, or of all that the warrant gives the node.
        """
        stream = call(self.source, self._keys)
        with contextlib.closing(stream):
            request = Prepare(
                what="prepare",
                warrant=order.signed.text,
                signature=order.signed.signature,
                checkpoint=order.checkpoint,
                sources=others,
                ranges=ranges,
            )
            stream.send(request)
            while True:
                said = granted(self._heard(stream), self.source.node)
                if isinstance(said, Prepared):
                    self._prepared, self._ranges = (order, others), ranges
                    return said
                if isinstance(said, Progress):
                    progress(said.done_bytes, said.total_bytes)
                elif isinstance(said, Fetch):
                    _supply(stream, order.supplies, said)

    def _heard(self, stream: Stream) -> Progress | Prepared | Fetch | Refusal:
        """What the node says next; raises RunError where it hangs or has gone."""
        until_s = time.monotonic() + _SILENT_S
        try:
            return stream.read(PREPARING, _SILENT_S)
        except PeerLostError as error:
            hangs = time.monotonic() >= until_s
            why = f"not a word for {_SILENT_S:.0f} s" if hangs else error.message
            raise RunError(
                f"node {self.source.node} does not get its weights ready: {why}",
                "look at the log of its planner node, start that anew and try again",
            ) from None

    def start(self, threads: int) -> RemoteProcess:
        """A new worker there; how many threads it has is the node's to say.

        A daemon that was started anew is shown the warrant again. Raises RunError.
        """
        try:
            stream, _ = self._ask(Work(what="work"))
        except DeniedError as error:
            if error.code != "not_allowed" or self._prepared is None:
                raise
            self.prepare(*self._prepared, ranges=self._ranges)
            stream, _ = self._ask(Work(what="work"))
        if stream.peer is not None:
            self.signer = stream.peer.key.public_bytes_raw().hex()

        def lead(inner: socket.socket) -> str:
            splice(stream.sock, inner)
            return "its node or the way to it failed"

        return RemoteProcess(lead, _ANSWER_S)

    def obtain(self, start: int, stop: int) -> bool:
        """The node pulls them, from other nodes or from here."""
        if self._prepared is not None and self._ranges is not None:
            ranges = tuple(dict.fromkeys((*self._ranges, (start, stop))))
            self.prepare(*self._prepared, ranges=ranges)
        return True

    def port_to(self, other: Place, port: int) -> int:
        """A port of the node that leads to another place."""
        if isinstance(other, RemotePlace):
            stream, opened = self._ask(Lead(what="lead", to=other.source, port=port))
            stream.close()
            if isinstance(opened, Refusal):
                raise UnreachableError(other.host, f"{self.host} does not reach {other.host}")
        else:
            stream, opened = self._ask(Return(what="return"))
            threading.Thread(target=_lead_home, args=(stream, port), daemon=True).start()
        if not isinstance(opened, Opened):
            raise RunError(f"node {self.source.node} named no port")
        return opened.port

    def port_from_home(self, port: int) -> int:
        """A port of this host that leads to a worker there."""
        try:
            onward = reach(self.source, port, self._keys)
        except RunError as error:
            raise UnreachableError(self.host, error.message, error.hint) from None
        listener = socket.create_server((LOOPBACK, 0), backlog=1)
        listener.settimeout(_ANSWER_S)
        threading.Thread(target=_lead_on, args=(listener, onward), daemon=True).start()
        opened: int = listener.getsockname()[1]
        return opened

    def _ask(self, request: Message) -> tuple[Stream, Opened | Begun | Blob | Refusal]:
        """A new stream and the answer to a request on it; raises UnreachableError, RunError."""
        try:
            stream = call(self.source, self._keys)
        except RunError as error:
            raise UnreachableError(self.host, error.message, error.hint) from None
        try:
            stream.send(request)
            answer = stream.read(ANSWER, _ANSWER_S)
            if not (isinstance(answer, Refusal) and answer.refused in _OTHERS):
                granted(answer, self.source.node)
        except PeerLostError as error:
            stream.close()
            raise UnreachableError(self.host, error.message) from None
        except BaseException:
            stream.close()
            raise
        return stream, answer


def prepare(
    places: dict[str, RemotePlace],
    order: Provision,
    progress: Callable[[str, int, int], None] = lambda node, done, total: None,
    others: tuple[Source, ...] = (),
    ranges: Mapping[str, tuple[tuple[int, int], ...]] | None = None,
) -> dict[str, Prepared]:
    """Has all nodes get their weights ready, side by side; raises the first RunError.

    They take what ``others`` have from them, and the rest from here: the layers that ``ranges``
    names by node, or all that they may hold.
    """

    def one(name: str) -> Prepared:
        wanted = None if ranges is None else ranges.get(name, ())
        told = lambda done, total: progress(name, done, total)  # noqa: E731
        return places[name].prepare(order, others, told, wanted)

    with ThreadPoolExecutor(max_workers=max(1, len(places))) as pool:
        return dict(zip(places, pool.map(one, places), strict=True))


def _supply(stream: Stream, supplies: Supplies, asked: Fetch) -> None:
    """Answers a node that asks for a blob."""
    recipe = supplies.find(asked.digest)
    if recipe is None:
        stream.send(Refusal(refused="no_such_blob"))
        return
    stream.send(Blob(size=recipe.size_bytes))
    try:
        for chunk in recipe.chunks(asked.offset):
            stream.send_bytes(chunk, _DATA_S)
    except OSError as error:
        raise RunError(f"the checkpoint cannot be read: {error}") from None


def _lead_home(stream: Stream, port: int) -> None:
    """Connects what comes back from a node to a port here, once something does."""
    try:
        stream.sock.settimeout(_ANSWER_S)
        first = stream.sock.recv(_CHUNK_BYTES)
        if not first:
            raise PeerLostError("nobody came")
        inner = socket.create_connection((LOOPBACK, port), timeout=_ANSWER_S)
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inner.sendall(first)
    except (OSError, PeerLostError):
        stream.close()
        return
    splice(stream.sock, inner)


def _lead_on(listener: socket.socket, onward: Stream) -> None:
    """Connects whoever comes to a port here to a node."""
    with listener:
        try:
            inner, _ = listener.accept()
        except OSError:
            onward.close()
            return
    inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    splice(onward.sock, inner)
