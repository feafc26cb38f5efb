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

from planner.core.plan import Plan, Standby
from planner.core.problem import Serving
from planner.run.checkpoint import open_checkpoint
from planner.run.driver import Session
from planner.run.fleet import Fleet
from planner.run.losses import Care
from planner.run.messages import Source
from planner.run.prompts import Prompt
from planner.run.remote import RemotePlace, prepare
from planner.run.seeded import make_checkpoint
from planner.run.settings import Settings
from tests.namespaces import Machine, machines, missing
from tests.run.deployment import Deployment, deployment
from tests.run.test_remote import order
from tests.run.world import chain, greedy, pipeline, problem, spec

WHY = missing()
PORT = 7431

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
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


@pytest.fixture
def home(tmp_path: Path) -> Deployment:
    return deployment(tmp_path / "keys")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", spec(), dtype="fp32")


def test_a_cut_wire_is_survived(home: Deployment, folder: Path) -> None:
    """The node behind it is replaced by its standby, and no answer changes."""
    standby = Standby(node="w2", pipeline=0, stage=1, state="hot")
    chosen = Plan(pipelines=(pipeline(["w0", "w1"], 4, max_num_seqs=2),), standbys=(standby,))
    world = problem(3, spec(), serving=Serving(detect=2.0, patience=60.0))
    owner = home.keys("coordinator", "home")
    prompts = [Prompt(key, 0.0, [key + 1, 7, 9], 40) for key in range(6)]
    cuts: list[float] = []
    with contextlib.ExitStack() as stack:
        wires = stack.enter_context(machines(("w0", "w1", "w2"), rate="50mbit"))
        sources = [stack.enter_context(daemon(home, machine)) for machine in wires.values()]
        places = {source.node: RemotePlace(source, owner) for source in sources}
        pulled = prepare(places, order(home, folder, chosen))
        assert all(one.pulled_bytes > 0 for one in pulled.values())

        def cut(request: int, _token: int) -> None:
            if request >= 2 and not cuts:
                cuts.append(time.monotonic())
                wires["w1"].cut()

        settings = Settings(folder, slot_tokens=64, threads=1, imitate_links=False)
        fleet = stack.enter_context(Fleet(world.cluster, chosen, settings, places))
        tokenizer = open_checkpoint(folder).tokenizer()
        session = Session(fleet, tokenizer, cut, care=Care(world))
        session.run(prompts, concurrency=2)
        assert session.failover is not None
        (recovered,) = session.failover.recoveries
        assert (recovered.node, recovered.replacement) == ("w1", "w2")
        assert recovered.found_s - cuts[0] < 10
    assert cuts
    assert {record.status for record in session.records.values()} == {"completed"}
    stages = chain(open_checkpoint(folder), [])
    for prompt in prompts:
        assert isinstance(prompt.content, list)
        assert session.outputs[prompt.id] == greedy(stages, prompt.content, 40)
