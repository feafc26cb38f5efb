"""``planner node`` and ``planner run --nodes`` from the outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.scene import Scene
from tests.cli.test_run import two_stages


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in socks]


@contextlib.contextmanager
def daemon(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A node of its own process that has said where it listens."""
    words = [sys.executable, "-m", "planner", "node", *map(str, arguments)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert "listens at" in process.stderr.readline()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
            process.wait(20)


def signed(scene: Scene, ports: list[int]) -> tuple[Path, Path]:
    """A manifest that is signed, and the inventory of its nodes."""
    path, keys = two_stages(scene), scene.folder / "keys"
    nodes = [f"--node={name}=127.0.0.1:{port}" for name, port in zip("ab", ports, strict=True)]
    assert scene.terminal("node", "init", keys, *nodes).code == 0
    said = scene.terminal("node", "sign", path, "--authority", keys)
    assert said.code == 0, said.stderr
    return path, keys / "inventory.yaml"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_plan_runs_on_daemons_of_its_nodes(scene: Scene) -> None:
    ports = free_ports(2)
    path, inventory = signed(scene, ports)
    with contextlib.ExitStack() as stack:
        for name, port in zip("ab", ports, strict=True):
            keys, weights = scene.folder / "keys" / name, scene.folder / f"weights-{name}"
            where = ("--listen", f"127.0.0.1:{port}", "--keys", keys, "--weights", weights)
            stack.enter_context(daemon(*where, "--threads", 1))
        said = scene.planner("run", path, "--nodes", inventory, "--format", "json")
        assert said.code == 0, said.stderr
    document = said.document
    assert document["sessions"] == {"started": 4, "completed": 4, "lost": 0}
    assert set(document["startup"]) == {"a", "b"}
    assert all(one["pulled_bytes"] > 0 for one in document["startup"].values())
    assert document["startup"]["b"]["predicted_bytes"] > 0  # a is where the weights are


def test_init_makes_keys_that_only_their_owner_reads(scene: Scene) -> None:
    keys = scene.folder / "keys"
    said = scene.terminal(
        "node", "init", keys, "--node", "a=10.0.0.1:7431", "--node", "b=[fd00::2]:7431",
        "--format", "json",
    )  # fmt: skip
    assert said.code == 0, said.stderr
    assert set(said.document["nodes"]) == {"a", "b"}
    for path in keys.rglob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert scene.terminal("node", "init", keys, "--node", "c=host.example:7431").code == 0
    text = (keys / "inventory.yaml").read_text()
    assert all(f"  {name}:" in text for name in "abc")
    assert scene.terminal("node", "init", keys, "--node", "a=10.0.0.1:7431").code == 7


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "--listen"),
        (["--listen", "127.0.0.1:0"], 2, "--keys"),
        (["--listen", "0.0.0.0:7431", "--insecure-loopback"], 2, "others could reach"),
        (["--listen", "127.0.0.1", "--insecure-loopback"], 2, "no HOST:PORT"),
        (["--listen", "127.0.0.1:1", "--keys", "nowhere"], 3, "member.key"),
        (["init", "keys", "--node", "a"], 2, "no HOST:PORT"),
        (["init", "keys", "--node", "../a=h:1"], 7, "no id of a node"),
        (["sign", "nowhere.yaml", "--authority", "nowhere"], 3, "nowhere.yaml"),
    ],
)
def test_what_makes_no_node(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(scene.folder)
    done = scene.terminal("node", *arguments)
    assert done.code == code, done.stderr
    assert said in done.stderr


def test_a_plan_that_is_not_signed_or_was_changed_since(scene: Scene) -> None:
    ports = free_ports(2)
    path, inventory = signed(scene, ports)
    path.write_text(path.read_text().replace("solver: ", "solver: my own "))
    said = scene.planner("run", path, "--nodes", inventory)
    assert said.code == 5
    assert "changed after it was signed" in said.stderr
    path.with_name(path.name + ".warrant.json").unlink()
    said = scene.planner("run", path, "--nodes", inventory)
    assert said.code == 3
    assert "not signed" in said.stderr


def test_a_node_that_nobody_listed_and_one_that_nobody_runs(scene: Scene) -> None:
    path, inventory = signed(scene, free_ports(2))
    said = scene.planner("run", path, "--nodes", inventory)
    assert said.code == 7
    assert "nobody answers at 127.0.0.1" in said.stderr
    text = inventory.read_text()
    inventory.write_text(text.replace("\n  b:", "\n  beta:"))
    said = scene.planner("run", path, "--nodes", inventory)
    assert said.code == 3
    assert "lacks node b" in said.stderr
    inventory.write_text(text.replace("address:", "adress:"))
    said = scene.planner("run", path, "--nodes", inventory)
    assert said.code == 3
    assert "did you mean address" in said.stderr


def test_the_warrant_names_layers_and_grows_by_an_epoch(scene: Scene) -> None:
    path, inventory = signed(scene, free_ports(2))
    warrant = path.with_name(path.name + ".warrant.json")
    first = json.loads(json.loads(warrant.read_text())["warrant"])
    assert [(one["node"], one["quant"]) for one in first["assignments"]] == [
        ("a", "fp32"),
        ("b", "fp32"),
    ]
    said = scene.terminal("node", "sign", path, "--authority", inventory.parent, "--format", "json")
    assert said.document["epoch"] == first["epoch"] + 1
    assert os.access(warrant, os.R_OK)
