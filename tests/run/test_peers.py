from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from planner.core.errors import RunError
from planner.run import peers
from planner.run.frames import Frame, Kind, control, encode, send_all
from planner.run.peers import PeerListener, measure_link
from planner.run.transport import LinkShape, ShapedLine

pytestmark = pytest.mark.alone

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[PeerListener]:
    made = PeerListener(LOOPBACK, 0)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    yield made
    made.close()
    thread.join(timeout=5)


@contextlib.contextmanager
def shaped(port: int, shape: LinkShape) -> Iterator[int]:
    """The port of a relay in front of ``port`` that imitates a link both ways."""
    opened: list[socket.socket] = []
    server = socket.create_server((LOOPBACK, 0))

    def pump(src: socket.socket, dst: socket.socket) -> None:
        line, waiting = ShapedLine(shape), threading.Semaphore(64)
        moved: list[tuple[float, bytes]] = []
        ready = threading.Semaphore(0)

        def deliver() -> None:
            while True:
                ready.acquire()
                due_s, data = moved.pop(0)
                time.sleep(max(0.0, due_s - time.monotonic()))
                if not data:
                    with contextlib.suppress(OSError):
                        dst.shutdown(socket.SHUT_WR)
                    return
                with contextlib.suppress(OSError):
                    dst.sendall(data)
                waiting.release()

        threading.Thread(target=deliver, daemon=True).start()
        while True:
            waiting.acquire()
            try:
                data = src.recv(16384)
            except OSError:
                data = b""
            moved.append((line.due_s(time.monotonic(), len(data)), data))
            ready.release()
            if not data:
                return

    def accept() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.create_connection((LOOPBACK, port))
            opened.extend((near, far))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    accepting.join()
    for one in (server, *opened):
        one.close()


def test_a_shaped_link_is_measured_as_it_is(
    listener: PeerListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_FLOW_S", 0.5)
    monkeypatch.setattr(peers, "_SETTLE_S", 0.15)
    monkeypatch.setattr(peers, "_ECHOES", 10)
    monkeypatch.setattr(peers, "_FIRST_ECHOES", 1)
    monkeypatch.setattr(peers, "STREAMS", 2)
    with shaped(listener.port, LinkShape(0.01, 4e6)) as port:
        found = measure_link(LOOPBACK, port)
    assert found.quantile_s(50) == pytest.approx(0.02, abs=5e-3)
    for flow in (found.there, found.back):
        assert flow.single_bytes_per_s == pytest.approx(4e6, rel=0.2)
        assert flow.parallel_bytes_per_s == pytest.approx(8e6, rel=0.25)


def test_nobody_there_is_a_runtime_failure_with_a_hint() -> None:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(RunError, match="nobody answers") as raised:
        measure_link(LOOPBACK, port)
    assert "--listen" in raised.value.hint


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n" + bytes(64),
        b"".join(encode(control({"do": "something"}))),
        b"".join(encode(Frame(Kind.PREFILL, 0, (), "bytes", 1, 9000, bytes(9000)))),
    ],
)
def test_a_listener_drops_nonsense_and_stays(listener: PeerListener, nonsense: bytes) -> None:
    with socket.create_connection((LOOPBACK, listener.port), timeout=5) as sock:
        sock.sendall(nonsense)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    with socket.create_connection((LOOPBACK, listener.port), timeout=5) as sock:
        send_all(sock, encode(control({"do": "echo"})))
        assert sock.recv(4) == b"PLNR"
