from __future__ import annotations

import socket
import statistics
import threading
import time

import pytest

from planner.run.frames import Frame, Kind, PeerLostError, control, encode, read_frame, send_all
from planner.run.transport import LOOPBACK, Channel, LinkShape, Listener, ShapedLine, connect

pytestmark = pytest.mark.alone


def frame(size_bytes: int) -> Frame:
    """A frame of that many bytes, head included."""
    empty = Frame(Kind.DECODE, 0, (), "bytes", 1, 0, b"")
    payload = bytes(size_bytes - sum(map(len, encode(empty))))
    return empty._replace(columns=len(payload), payload=payload)


def test_a_line_is_busy_for_bytes_over_rate_and_delays_overlap() -> None:
    line = ShapedLine(LinkShape(one_way_latency_s=10.0, bytes_per_s=100.0))
    assert line.due_s(0.0, 200) == 12.0
    assert line.due_s(0.5, 100) == 13.0
    assert line.due_s(7.0, 100) == 18.0


def test_a_prompt_in_chunks_opens_the_window_once() -> None:
    """100 bytes/s, 10 s round trip: 100 bytes, a wait of 9 s, 200 bytes, one of 8 s, 400 bytes."""
    shape = LinkShape(one_way_latency_s=5.0, bytes_per_s=100.0, initial_window_bytes=100.0)
    whole, chunks = ShapedLine(shape), ShapedLine(shape)
    due_s = whole.due_s(0.0, 700, Kind.PREFILL)
    assert due_s == pytest.approx(5.0 + 7.0 + 9.0 + 8.0)
    for _ in range(6):
        chunks.due_s(0.0, 100, Kind.CHUNK)
    assert chunks.due_s(0.0, 100, Kind.PREFILL) == pytest.approx(due_s)
    assert chunks.due_s(100.0, 700, Kind.PREFILL) == pytest.approx(100.0 + due_s)


def test_jitter_spreads_but_never_reorders() -> None:
    shape = LinkShape(one_way_latency_s=1.0, bytes_per_s=1e9, jitter_s=0.2, seed=3)
    line, again = ShapedLine(shape), ShapedLine(shape)
    due = [line.due_s(now, 1) for now in range(200)]
    assert due == [again.due_s(now, 1) for now in range(200)]
    delays = [later - now for now, later in enumerate(due)]
    assert statistics.stdev(delays) == pytest.approx(0.2, rel=0.2)
    assert statistics.mean(delays) == pytest.approx(1.0, rel=0.1)
    crowded = [line.due_s(300.0, 1) for _ in range(100)]
    assert crowded == sorted(crowded)


def delays_s(shape: LinkShape, sizes_bytes: list[int], gap_s: float) -> list[float]:
    """Seconds from handing each message over until it was read at the other end."""
    return [end - start for start, end in zip(*times_s(shape, sizes_bytes, gap_s), strict=True)]


def times_s(
    shape: LinkShape, sizes_bytes: list[int], gap_s: float
) -> tuple[list[float], list[float]]:
    """When each message was handed over, and when it was read at the other end."""
    listener = Listener("secret")
    out = connect(listener.port, "secret", "test")
    into, _ = listener.accept(5)
    arrived: list[float] = []

    def read() -> None:
        for _ in sizes_bytes:
            read_frame(into, 10**8)
            arrived.append(time.monotonic())

    reading = threading.Thread(target=read)
    reading.start()
    channel = Channel(out, shape)
    handed = []
    for size in sizes_bytes:
        handed.append(time.monotonic())
        channel.send(frame(size))
        time.sleep(gap_s)
    reading.join()
    channel.close()
    into.close()
    listener.close()
    return handed, arrived


@pytest.mark.parametrize(
    ("latency_s", "bytes_per_s", "size_bytes"),
    [(0.02, 12.5e6, 16_384), (0.04, 2.5e6, 4_096), (0.001, 125e6, 200_000)],
)
def test_a_shaped_link_keeps_its_delay_and_rate(
    latency_s: float, bytes_per_s: float, size_bytes: int
) -> None:
    ideal_s = size_bytes / bytes_per_s + latency_s
    gap_s = 2 * size_bytes / bytes_per_s
    found_s = delays_s(LinkShape(latency_s, bytes_per_s), [size_bytes] * 20, gap_s)
    assert statistics.median(found_s) == pytest.approx(ideal_s, abs=1e-3)
    assert min(found_s) > ideal_s - 5e-4


def test_messages_queue_behind_each_other_at_the_rate_of_the_link() -> None:
    shape = LinkShape(0.03, 5e6)
    sizes = [50_000] * 20
    handed_s, arrived_s = times_s(shape, sizes, gap_s=0.0)
    assert arrived_s[-1] - handed_s[0] == pytest.approx(sum(sizes) / 5e6 + 0.03, rel=0.03, abs=1e-3)


def test_a_sender_does_not_wait_for_its_link() -> None:
    listener = Listener("secret")
    channel = Channel(connect(listener.port, "secret", "test"), LinkShape(0.2, 1e6))
    into, _ = listener.accept(5)
    start_s = time.monotonic()
    for _ in range(5):
        channel.send(frame(10_000))
    assert time.monotonic() - start_s < 0.05
    for _ in range(5):
        read_frame(into, 10**6)
    assert time.monotonic() - start_s == pytest.approx(0.25, abs=0.03)
    channel.close()
    into.close()
    listener.close()


def test_an_unshaped_channel_keeps_the_order_of_small_and_large() -> None:
    listener = Listener("secret")
    channel = Channel(connect(listener.port, "secret", "test"))
    into, _ = listener.accept(5)
    sizes = [100, 6_000_000, 200, 3_000_000, 300]
    for size in sizes:
        channel.send(frame(size))
    got = [len(read_frame(into, 10**7).payload) for _ in sizes]
    assert got == [len(frame(size).payload) for size in sizes]
    channel.close()
    into.close()
    listener.close()


def test_only_those_who_know_the_secret_come_in() -> None:
    listener = Listener("right")
    wrong = connect(listener.port, "wrong", "intruder")
    noise = socket.create_connection((LOOPBACK, listener.port))
    noise.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
    large = socket.create_connection((LOOPBACK, listener.port))
    send_all(large, encode(control({"secret": "right", "padding": "x" * 5000})))
    right = connect(listener.port, "right", "friend")
    sock, name = listener.accept(10)
    assert name == "friend"
    assert wrong.recv(1) == b""
    for each in (wrong, noise, large, right, sock):
        each.close()
    with pytest.raises(TimeoutError):
        listener.accept(0.05)
    listener.close()


def test_who_says_nothing_keeps_nobody_waiting() -> None:
    listener = Listener("right")
    silent = [socket.create_connection((LOOPBACK, listener.port)) for _ in range(5)]
    start_s = time.monotonic()
    right = connect(listener.port, "right", "friend")
    sock, name = listener.accept(10)
    assert name == "friend"
    assert time.monotonic() - start_s < 1.0
    for each in (*silent, right, sock):
        each.close()
    listener.close()


def test_nobody_listens() -> None:
    listener = Listener("secret")
    port = listener.port
    listener.close()
    with pytest.raises(PeerLostError, match=str(port)):
        connect(port, "secret", "test")


def test_a_channel_whose_peer_is_gone_says_so() -> None:
    listener = Listener("secret")
    channel = Channel(connect(listener.port, "secret", "test"))
    into, _ = listener.accept(5)
    into.close()

    def keep_sending() -> None:
        for _ in range(100):
            channel.send(frame(100_000))
            time.sleep(0.01)

    with pytest.raises(PeerLostError):
        keep_sending()
    channel.close()
    listener.close()
