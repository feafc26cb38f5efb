"""What the way through two daemons costs: round trips between two nodes of this host.

python -m benchmarks.hops [--trips 2000]

A loopback connection, and one that goes to a port of one daemon, over TLS to another and from there
to an echoing process, as a hop between two stages does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from planner.run.relay import splice
from planner.run.tls import client_context, dial, handshake, server_context
from tests.run.deployment import deployment

SIZES = (64, 2048, 8192, 16384)
_ECHO = """
import socket, sys
s = socket.socket(fileno=int(sys.argv[1])); c, _ = s.accept()
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while d := c.recv(65536): c.sendall(d)
"""


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The port of a process that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [sys.executable, "-c", _ECHO, str(listener.fileno())]
        with subprocess.Popen(words, pass_fds=[listener.fileno()]) as process:
            yield listener.getsockname()[1]
            process.kill()


@contextlib.contextmanager
def relayed(port: int) -> Iterator[int]:
    """A port that leads to another through two daemons, each a process of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = deployment(folder)
        near, far = home.keys("node", "near"), home.keys("node", "far")
        front = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        back = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        children = [os.fork(), 0]
        if not children[0]:
            sock, _ = back.accept()
            secure = handshake(sock, server_context(far), server=True)
            splice(secure, nodelay(socket.create_connection(("127.0.0.1", port))))
            os._exit(0)
        children[1] = os.fork()
        if not children[1]:
            inner, _ = front.accept()
            secure = dial("127.0.0.1", back.getsockname()[1], client_context(near))
            splice(secure, nodelay(inner))
            os._exit(0)
        yield front.getsockname()[1]
        for child in children:
            os.waitpid(child, 0)


def nodelay(sock: socket.socket) -> socket.socket:
    """The same connection, which sends at once."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def trips_s(port: int, size_bytes: int, trips: int) -> list[float]:
    """Seconds of round trips, shortest first."""
    data, taken = os.urandom(size_bytes), []
    for _ in range(trips):
        begun_s = time.perf_counter()
        SOCKS[port].sendall(data)
        left = size_bytes
        while left:
            left -= len(SOCKS[port].recv(left))
        taken.append(time.perf_counter() - begun_s)
    return sorted(taken)


SOCKS: dict[int, socket.socket] = {}


def main() -> None:
    """Prints both ways side by side, in microseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trips", type=int, default=2000)
    options = parser.parse_args()
    assert threading.active_count() == 1, "daemons are forked"
    print("| bytes | loopback median / p99 | two daemons median / p99 |")
    print("|---|---|---|")
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(echo()) for _ in range(2)]
        ports = [ends[0], stack.enter_context(relayed(ends[1]))]
        for port in ports:
            SOCKS[port] = stack.enter_context(
                nodelay(socket.create_connection(("127.0.0.1", port)))
            )
            trips_s(port, 64, 200)
        for size_bytes in SIZES:
            found = [trips_s(port, size_bytes, options.trips) for port in ports]
            cells = [
                f"{statistics.median(one) * 1e6:.0f} / {one[int(0.99 * len(one))] * 1e6:.0f} us"
                for one in found
            ]
            print(f"| {size_bytes} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
