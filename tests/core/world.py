"""A tiny world with round numbers, so that expected times can be worked out by hand."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from planner.core.cluster import Cluster, Link, Node
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.model import ModelSpec
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Workload

CARD: dict[str, Any] = {"source": "made up for tests", "as_of": datetime.date(2026, 1, 1)}


def device(device_id: str = "chip", **changes: Any) -> Device:
    """A chip of 10 GB, 100 GB/s and 10 TFLOP/s."""
    values: dict[str, Any] = {
        "id": device_id,
        "name": device_id,
        "device_class": "test",
        "memory": 10e9,
        "memory_bandwidth": 100e9,
        "compute": {"bf16": 10e12},
    }
    return Device.model_validate(values | CARD | changes)


def model(**changes: Any) -> ModelSpec:
    """Four layers, hidden size 64."""
    values: dict[str, Any] = {
        "id": "tiny",
        "family": "tiny",
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "max_position_embeddings": 4096,
    }
    return ModelSpec.model_validate(values | CARD | changes)


def quant(quant_id: str = "bf16", **changes: Any) -> QuantScheme:
    """16 bits everywhere, lossless."""
    values: dict[str, Any] = {
        "id": quant_id,
        "name": quant_id,
        "weight_bits": 16,
        "lossless": True,
    }
    return QuantScheme.model_validate(values | CARD | changes)


def engine(**changes: Any) -> Engine:
    """Full bandwidth and compute, 1 ms per step and 0.1 ms per layer."""
    calibration = Calibration(
        efficiency={"*": Efficiency(bandwidth=1.0, compute=1.0)},
        kv_bandwidth=1.0,
        attention_compute=1.0,
        layer_overhead=1e-4,
        step_overhead=1e-3,
        source="made up for tests",
    )
    values: dict[str, Any] = {
        "id": "test-engine",
        "name": "test-engine",
        "version": "1",
        "calibrations": (calibration,),
        "hop": 1e-4,
        "coordinator_step": 2e-4,
        "request": 5e-4,
        "memory_fraction": 1.0,
    }
    return Engine.model_validate(values | CARD | changes)


def link(src: str = "*", dst: str = "*", **changes: Any) -> Link:
    """10 ms one way, 10 MB/s."""
    values: dict[str, Any] = {"src": src, "dst": dst, "one_way_latency": 0.01, "bandwidth": 10e6}
    return Link.model_validate(values | changes)


def problem(
    nodes: Sequence[Node] = (Node(id="a", device="chip"), Node(id="b", device="chip")),
    links: Sequence[Link] = (),
    devices: Sequence[Device] = (),
    **changes: Any,
) -> Problem:
    """Two equal nodes, one user, 100 prompt and 11 output tokens."""
    cluster = Cluster(
        devices=tuple(devices) or (device(),),
        nodes=tuple(nodes),
        links=tuple(links) or (link(),),
        coordinator=nodes[0].id,
    )
    values: dict[str, Any] = {
        "name": "tiny",
        "cluster": cluster,
        "model": model(),
        "engine": engine(),
        "quants": (quant(),),
        "requirements": Requirements(objective="e2el"),
        "workload": Workload(
            arrivals=Closed(kind="closed", concurrency=1),
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=11),
            requests=4,
        ),
    }
    return Problem.model_validate(values | changes)
