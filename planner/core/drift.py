"""Drift: the speeds of a shared machine change; a calibrated problem as its hosts are now.

The memory of a shared host is up to 1.5 times as fast in one minute as in another, and whether a
stage stays in a cache that others use as well is found out by running it. A profile says what its
probe found, and what a few short readings were at the time; the same readings now say by how much
to scale each of its terms, and steps of the very stage that a node holds by how much more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency
from planner.core.forecast import Rehearsal, forecasts
from planner.core.pace import factors, moved
from planner.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Speeds:
    """What one worker of a host reaches at some moment."""

    memory_bytes_per_s: float
    """A streaming read."""
    flop_per_s: float
    """A square product in bf16."""
    call_s: float
    """A small operation, called from Python."""


def probed(device: Device) -> Speeds | None:
    """What the readings were when a device was probed; None for one that was not."""
    flop_per_s = device.flop_per_s.get("bf16")
    if device.call_s is None or flop_per_s is None:
        return None
    return Speeds(device.memory_bytes_per_s, flop_per_s, device.call_s)


def as_found(
    problem: Problem,
    found: Mapping[str, Speeds],
    paces: Mapping[str, Rehearsal] | None = None,
    ahead_s: float = math.inf,
) -> Problem:
    """The problem on nodes as fast as they are found to be, by node id.

    Reads scale with the streaming read, products with the square product, overheads with the small
    operation; where a node made steps of its stage (``paces``), all of it until those take as long
    as they and the profile let expect of the ``ahead_s`` to come (``core/forecast.py``). Nodes
    that were not read, or whose device was not probed, stay as they are.
    """
    cluster, engine = problem.cluster, problem.engine
    devices, calibrations = list(cluster.devices), list(engine.calibrations)
    nodes, slower = [], {}
    expected = {
        node: forecast
        for forecast in forecasts(problem, paces or {}, ahead_s).values()
        for node in forecast.rehearsals
    }
    for node in cluster.nodes:
        now = found.get(node.id)
        device = cluster.device(node.id) if node.device is not None else None
        then = probed(device) if device is not None else None
        if now is not None and device is not None and then is not None:
            own = f"{device.id} of {node.id}"
            slower[node.id] = now.call_s / then.call_s
            devices.append(_paced(device, own, now, then))
            own_pace = _slowed(engine.calibration(device), own, slower[node.id])
            if node.id in expected:
                made = expected[node.id].steps(node.id)
                steps = [replace(step, device=devices[-1]) for step in made]
                own_pace = moved(own_pace, factors(steps, own_pace))
            calibrations.append(own_pace)
            node = node.model_copy(update={"device": own})
        nodes.append(node)
    if not slower:
        return problem
    beside = slower.get(cluster.coordinator, sum(slower.values()) / len(slower))
    software = ("hop_s", "own_hop_s", "coordinator_step_s", "takeover_s", "load_s", "request_s")
    scaled = {name: getattr(engine, name) for name in software}
    changes = {name: value * beside for name, value in scaled.items() if value is not None}
    return problem.model_copy(
        update={
            "cluster": cluster.model_copy(
                update={"devices": tuple(devices), "nodes": tuple(nodes)}
            ),
            "engine": engine.model_copy(update=changes | {"calibrations": tuple(calibrations)}),
        }
    )


def _paced(device: Device, name: str, now: Speeds, then: Speeds) -> Device:
    """A device with its peaks as they are now."""
    share = now.flop_per_s / then.flop_per_s
    return device.model_copy(
        update={
            "id": name,
            "memory_bytes_per_s": now.memory_bytes_per_s,
            "flop_per_s": {dtype: rate * share for dtype, rate in device.flop_per_s.items()},
            "call_s": now.call_s,
        }
    )


def _slowed(calibration: Calibration, device: str, times: float) -> Calibration:
    """A calibration for a device of its own, whose overheads take so many times as long."""
    overheads = (
        "layer_overhead_s",
        "expert_overhead_s",
        "step_overhead_s",
        "wake_s",
        "sequence_overhead_s",
        "sequence_layer_overhead_s",
    )
    efficiency: dict[str, Efficiency] = {
        quant: entry.model_copy(update={"layer_overhead_s": entry.layer_overhead_s * times})
        for quant, entry in calibration.efficiency.items()
    }
    changes = {name: getattr(calibration, name) * times for name in overheads}
    return calibration.model_copy(update=changes | {"device": device, "efficiency": efficiency})
