from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from planner.run.frames import (
    Frame,
    FrameError,
    Kind,
    PeerLostError,
    Seat,
    control,
    encode,
    read_control,
    read_frame,
    send_all,
)

LIMIT = 10_000
FRAME = Frame(
    Kind.DECODE, 7, (Seat(1, 20), Seat(3, 5, 0.5, 0.25, 2**63)), "bfloat16", 2, 3, b"ab" * 6
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    right.settimeout(5)
    with left, right:
        yield left, right


def wire(frame: Frame) -> bytearray:
    return bytearray(b"".join(encode(frame)))


def test_a_frame_arrives_as_it_was_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    for frame in (FRAME, FRAME._replace(seats=(), rows=0, payload=b""), control({"a": [1, "ü"]})):
        send_all(ends[0], encode(frame))
        got = read_frame(ends[1], LIMIT)
        assert got == frame
    assert got.message == {"a": [1, "ü"]}


def test_a_large_frame_arrives_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    frame = Frame(
        Kind.PREFILL, 1, (Seat(0, 0, tokens=1000),), "float32", 1000, 1000, bytes(4_000_000)
    )
    sending = threading.Thread(target=send_all, args=(ends[0], encode(frame)))
    sending.start()
    assert read_frame(ends[1], 4_000_000) == frame
    sending.join()


def test_the_header_of_one_sequence_fits_the_cost_model(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    head, _ = encode(FRAME._replace(seats=(Seat(0, 0),)))
    assert len(head) <= 64


def patched(offset: int, form: str, value: object) -> bytearray:
    data = wire(FRAME)
    struct.pack_into(form, data, offset, value)
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (patched(0, "4s", b"HTTP"), "protocol"),
        (patched(4, "B", 9), "version 9"),
        (patched(5, "B", 99), "unknown kind"),
        (patched(6, "B", 99), "unknown kind"),
        (patched(12, "<I", 2**32 - 1), "unknown kind"),
        (patched(16, "<I", 3), "size and shape"),
        (patched(24, "<Q", 2**63), "size and shape"),
        (patched(32 + 24, "<I", 2), "sequences and rows"),
    ],
    ids=["magic", "version", "kind", "format", "seats", "rows", "bytes", "tokens"],
)
def test_nonsense_is_refused(
    ends: tuple[socket.socket, socket.socket], data: bytearray, said: str
) -> None:
    ends[0].sendall(data)
    with pytest.raises(FrameError, match=said):
        read_frame(ends[1], LIMIT)


def test_an_oversized_frame_is_refused_before_its_bytes_come(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    giant = struct.pack("<4sBBBBIIIIQ", b"PLNR", 2, Kind.PREFILL, 2, 0, 1, 0, 2**31, 2**9, 2**42)
    ends[0].sendall(giant)
    with pytest.raises(FrameError, match="are the most"):
        read_frame(ends[1], LIMIT)


@pytest.mark.parametrize("kept", [0, 10, 40, 90])
def test_a_frame_that_breaks_off(ends: tuple[socket.socket, socket.socket], kept: int) -> None:
    ends[0].sendall(wire(FRAME)[:kept])
    ends[0].close()
    with pytest.raises(PeerLostError):
        read_frame(ends[1], LIMIT)


def test_only_control_frames_hold_messages(ends: tuple[socket.socket, socket.socket]) -> None:
    odd = Frame(Kind.CONTROL, 0, (), "bytes", 1, 2, b"[]")
    for frame in (FRAME, odd, odd._replace(payload=b"{x")):
        send_all(ends[0], encode(frame))
        with pytest.raises(FrameError):
            read_control(ends[1])


def test_sending_to_a_closed_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].close()
    with pytest.raises(PeerLostError):
        send_all(ends[0], encode(FRAME))


@pytest.mark.parametrize("picking", [(float("nan"), 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1.5)])
def test_a_token_that_cannot_be_picked(
    ends: tuple[socket.socket, socket.socket], picking: tuple[float, float]
) -> None:
    seats = (FRAME.seats[0]._replace(temperature=picking[0], top_p=picking[1]), FRAME.seats[1])
    send_all(ends[0], encode(FRAME._replace(seats=seats)))
    with pytest.raises(FrameError, match="cannot be picked"):
        read_frame(ends[1], LIMIT)
