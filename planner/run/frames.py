"""Frame: one message between processes, as a fixed header, its sequences and raw bytes.

Nothing in a frame is executable, and every size is checked before memory is taken for it.
"""

from __future__ import annotations

import json
import socket
import struct
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from planner.core.errors import RunError

VERSION = 2
CONTROL_LIMIT_BYTES = 64 * 2**20
"""Largest control message; step records of long runs are the largest."""

_MAGIC = b"PLNR"
_HEADER = struct.Struct("<4sBBBBIIIIQ")
_SEAT = struct.Struct("<IIffQII")
_MAX_SEATS = 65536
_MOST_HEAT = 1e6
"""Highest temperature; not a number is none either."""
_ITEM_BYTES = {"bytes": 1, "int32": 4, "float32": 4, "bfloat16": 2, "int8g128": 1}
_DTYPES = tuple(_ITEM_BYTES)


class Kind(IntEnum):
    """What a frame is for."""

    CONTROL = 1
    """A JSON object."""
    PREFILL = 2
    """A prompt, or its last part: token ids, or hidden states of its tokens."""
    DECODE = 3
    """One step of several sequences: token ids, or hidden states."""
    TOKENS = 4
    """One new token id per sequence of a job."""
    CHUNK = 5
    """A part of a prompt that more of it follows: no token comes of it."""


class Seat(NamedTuple):
    """One sequence of a job: where its cache is and how its next token is picked."""

    slot: int
    position: int
    """Tokens in its cache before this job."""
    temperature: float = 0.0
    """0 picks the most likely token."""
    top_p: float = 1.0
    seed: int = 0
    tokens: int = 1
    """Rows of the payload that are this sequence's."""
    session: int = 0
    """Whose cache it is: the id of the request."""


class Frame(NamedTuple):
    """A message; ``payload`` holds ``rows x columns`` items of ``dtype``, little endian."""

    kind: Kind
    job: int
    seats: tuple[Seat, ...]
    dtype: str
    rows: int
    columns: int
    payload: bytes | bytearray | memoryview
    replay: bool = False
    """Sent again to fill the cache of a node that took over: nothing follows from it."""

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """Slot, tokens held and new tokens of each sequence."""
        return [(seat.slot, seat.position, seat.tokens) for seat in self.seats]

    @property
    def message(self) -> dict[str, Any]:
        """Content of a control frame; raises FrameError."""
        try:
            content = json.loads(bytes(self.payload))
        except (ValueError, RecursionError):
            content = None
        if self.kind is not Kind.CONTROL or not isinstance(content, dict):
            raise FrameError("a peer sent something else than a control message")
        return content


class Readable(Protocol):
    """What a frame can be read from; a socket is."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fills some of the buffer; 0 at the end of the stream."""


class PeerLostError(RunError):
    """The process at the other end of a connection is gone."""


class FrameError(RunError):
    """A peer sent bytes that are no frame of ours."""


def control(message: dict[str, Any]) -> Frame:
    """A control frame."""
    payload = json.dumps(message, separators=(",", ":")).encode()
    return Frame(Kind.CONTROL, 0, (), "bytes", 1, len(payload), payload)


def encode(frame: Frame) -> list[memoryview]:
    """Head and body of a frame as they go on the wire; the body is not copied."""
    body = memoryview(frame.payload).cast("B")
    head = _HEADER.pack(
        _MAGIC,
        VERSION,
        frame.kind,
        _DTYPES.index(frame.dtype),
        frame.replay,
        frame.job,
        len(frame.seats),
        frame.rows,
        frame.columns,
        len(body),
    )
    return [memoryview(head + b"".join(_SEAT.pack(*seat) for seat in frame.seats)), body]


def read_frame(sock: Readable, limit_bytes: int) -> Frame:
    """The next frame; raises PeerLostError at the end of the stream, FrameError for nonsense."""
    head = _read(sock, _HEADER.size)
    magic, version, kind, dtype, replay, job, seats, rows, columns, size_bytes = _HEADER.unpack(
        head
    )
    if magic != _MAGIC:
        raise FrameError("a peer does not speak planner's protocol")
    if version != VERSION:
        raise FrameError(
            f"a peer speaks version {version} of the protocol, this is version {VERSION}",
            "run the same version of planner on every node",
        )
    if kind not in Kind._value2member_map_ or dtype >= len(_DTYPES) or seats > _MAX_SEATS:
        raise FrameError("a peer sent a frame with an unknown kind, number format or size")
    if size_bytes != rows * columns * _ITEM_BYTES[_DTYPES[dtype]]:
        raise FrameError("a peer sent a frame whose size and shape differ")
    if size_bytes > limit_bytes:
        raise FrameError(f"a peer sent {size_bytes} bytes where {limit_bytes} are the most")
    listed = tuple(map(Seat._make, _SEAT.iter_unpack(_read(sock, seats * _SEAT.size))))
    if listed and sum(seat.tokens for seat in listed) != rows:
        raise FrameError("a peer sent a frame whose sequences and rows differ")
    if not all(0 <= seat.temperature <= _MOST_HEAT and 0 < seat.top_p <= 1 for seat in listed):
        raise FrameError("a peer sent a sequence whose next token cannot be picked")
    payload = _read(sock, size_bytes)
    return Frame(Kind(kind), job, listed, _DTYPES[dtype], rows, columns, payload, bool(replay))


HEAD_BYTES = _HEADER.size
"""Of a frame, before its sequences."""


def length_of(head: bytes | bytearray | memoryview, limit_bytes: int) -> int:
    """Bytes of the whole frame that begins with a head; raises FrameError for nonsense."""
    magic, version, *_, seats, _rows, _columns, size_bytes = _HEADER.unpack(head)
    if magic != _MAGIC or version != VERSION or seats > _MAX_SEATS or size_bytes > limit_bytes:
        raise FrameError("a peer sent a frame that is none, too large or of another version")
    return _HEADER.size + int(seats) * _SEAT.size + int(size_bytes)


class _Bytes:
    """Bytes that were read before."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def recv_into(self, buffer: memoryview, /) -> int:
        """As a socket's."""
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def decode(data: bytes) -> Frame:
    """The frame that some bytes are; raises PeerLostError or FrameError."""
    return read_frame(_Bytes(data), len(data))


def read_control(sock: Readable, limit_bytes: int = CONTROL_LIMIT_BYTES) -> dict[str, Any]:
    """The next frame's message; raises PeerLostError or FrameError."""
    return read_frame(sock, limit_bytes).message


def send_all(sock: socket.socket, parts: list[memoryview]) -> None:
    """Sends the parts of a frame; raises PeerLostError."""
    while parts:
        parts = send_some(sock, parts, flags=0)


def send_some(
    sock: socket.socket, parts: list[memoryview], flags: int = socket.MSG_DONTWAIT
) -> list[memoryview]:
    """Sends what the system takes, by default without waiting; returns what is left.

    Raises PeerLostError.
    """
    try:
        taken = sock.sendmsg(parts, [], flags)
    except BlockingIOError:
        return parts
    except OSError as error:
        raise PeerLostError(f"a connection broke while sending: {error}") from None
    left = []
    for part in parts:
        if taken < len(part):
            left.append(part[taken:])
        taken = max(0, taken - len(part))
    return left


def _read(sock: Readable, size_bytes: int) -> bytearray:
    data = bytearray(size_bytes)
    view, filled = memoryview(data), 0
    while filled < size_bytes:
        try:
            got = sock.recv_into(view[filled:])
        except OSError as error:
            raise PeerLostError(f"a connection broke: {error}") from None
        if got == 0:
            raise PeerLostError("a peer closed its connection")
        filled += got
    return data
