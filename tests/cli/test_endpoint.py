from __future__ import annotations

import socket

import pytest

from planner.cli.endpoint import listen_at
from planner.core.errors import RunError, UsageError


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("0.0.0.0:7431", "others could reach"),
        ("10.0.0.1:7431", "others could reach"),
        ("[::]:7431", "others could reach"),
        ("somewhere.example:7431", "others could reach"),
        ("nowhere", "no HOST:PORT"),
        ("127.0.0.1:70000", "no HOST:PORT"),
        ("127.0.0.1:7431/v1", "no HOST:PORT"),
    ],
)
def test_what_is_not_listened_at(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        listen_at(address, protected=False)


def test_a_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(RunError, match="in use"):
            listen_at(f"127.0.0.1:{port}", protected=False)
