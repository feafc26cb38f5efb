"""What passes between a coordinator and a worker of another machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from planner.run.bearing import Bearing
from planner.run.frames import FrameError, control, decode, encode
from planner.run.limits import Limits
from planner.run.linear import Kernels
from planner.run.warrant import Assignment, Warrant

LOAD = {
    "checkpoint": "elsewhere", "start": 0, "stop": 2, "quant": "bf16", "slots": 1,
    "slot_tokens": 64, "threads": 1, "device": "cpu", "kernels": None, "secret": "0" * 32,
}  # fmt: skip


@dataclass
class Lease:
    warrant: Warrant
    directory: Path


@dataclass
class Compute:
    threads: int = 3
    device: str = "cpu"


def bearing() -> Bearing:
    mine = Assignment(node="a", start=0, stop=2, quant="bf16")
    warrant = Warrant(
        deployment="0" * 16, epoch=1, manifest="0" * 64, weights="0" * 64, expires=2**53,
        assignments=(mine,),
    )  # fmt: skip
    return Bearing(Lease(warrant, Path("/srv/weights")), "a", Compute(), Limits(), set())


def carried(order: dict[str, object]) -> dict[str, object]:
    """A load order as it reaches the worker."""
    sent = b"".join(bytes(part) for part in encode(control({"load": order})))
    found: dict[str, object] = json.loads(bytes(decode(bearing().order(sent)).payload))["load"]
    return found


@pytest.mark.parametrize("kernels", [None, Kernels(packed=True), Kernels(compiled=True)])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_node_may_be_asked_to_compile_and_told_what_was_chosen(
    kernels: Kernels | None, compiled: bool
) -> None:
    told = None if kernels is None else json.loads(json.dumps(asdict(kernels)))
    found = carried(LOAD | {"compiled": compiled, "kernels": told})
    assert (found["compiled"], found["kernels"]) == (compiled, told)
    assert (found["threads"], found["checkpoint"]) == (3, "/srv/weights")


def test_what_to_compile_is_nobody_elses_to_say() -> None:
    with pytest.raises(FrameError):
        carried(LOAD | {"compiled": "os.system"})
    with pytest.raises(FrameError):
        carried(LOAD | {"compiled": True, "programs": "/tmp/programs.so"})
