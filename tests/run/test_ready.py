"""Connections whose descriptors are beyond what select(2) knows."""

from __future__ import annotations

import fcntl
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from planner.run.ready import ready

pytestmark = pytest.mark.alone


@pytest.fixture(params=[0, 1500], ids=["few descriptors", "many descriptors"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    one, other = socket.socketpair()
    with one, other:
        number = fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, request.param)
        with socket.socket(fileno=number) as far:
            one.close()
            yield far, other
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_can_be_read_is_told_at_once_and_nothing_after_the_wait(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    far, other = pair
    start_s = time.monotonic()
    assert ready([far, other], 0.02) == []
    assert 0.015 < time.monotonic() - start_s < 1.0
    other.send(b"x")
    assert ready([far, other], 10.0) == [far]
    assert ready([far.fileno()]) == [far.fileno()]
    other.close()
    far.recv(1)
    assert ready([far], 10.0) == [far], "an end is read, too"
