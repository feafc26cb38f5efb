from __future__ import annotations

import socket
from pathlib import Path

import pytest

from planner.cli.endpoint import Entrance, listen_at
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
        listen_at(address, lacks="keys")


def test_a_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(RunError, match="in use"):
            listen_at(f"127.0.0.1:{port}", lacks="keys")


def test_what_an_endpoint_lacks_to_be_reached_from_elsewhere(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    assert Entrance("x").lacks == "--api-key and --tls-cert and --tls-key"
    assert Entrance("x", "secret").lacks == "--tls-cert and --tls-key"
    assert Entrance("x", "secret", chain, key).lacks == ""
    assert Entrance("x").pair() is None


@pytest.mark.parametrize("given", ["chain", "nothing there", "no certificate"])
def test_certificates_that_are_none(tmp_path: Path, given: str) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    if given == "no certificate":
        chain.write_text("x")
        key.write_text("x")
    with pytest.raises(UsageError, match="--tls-cert"):
        Entrance("x", "secret", chain, None if given == "chain" else key).pair()
