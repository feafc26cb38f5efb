"""Nodes that are machines of their own as far as the network is concerned."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet, Settings
from planner.run.messages import Source
from planner.run.remote import RemotePlace, prepare
from planner.run.seeded import make_checkpoint
from tests.namespaces import Machine, machines, missing
from tests.run.deployment import Deployment, deployment
from tests.run.test_remote import order
from tests.run.world import chain, greedy, pipeline, plan, problem, spec

WHY = missing()
PORT = 7431

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY), reason=WHY),
    pytest.mark.timeout(200),
]


@contextlib.contextmanager
def daemon(home: Deployment, machine: Machine) -> Iterator[Source]:
    """A node's daemon in its own namespace."""
    keys = home.keys("node", machine.name)
    words = [
        sys.executable, "-m", "planner", "node", "--listen", f"{machine.address}:{PORT}",
        "--keys", str(keys.directory), "--weights", str(home.folder / f"w-{machine.name}"),
        "--threads", "1",
    ]  # fmt: skip
    with subprocess.Popen(machine.inside(words), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert "listens at" in process.stderr.readline()
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Source(
                node=machine.name,
                host=machine.address,
                port=PORT,
                fingerprint=keys.me.fingerprint,
            )
        finally:
            process.terminate()
            process.wait(20)
