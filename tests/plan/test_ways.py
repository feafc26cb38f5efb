"""Ways: the split of a node's devices and the scheme of each stage are chosen where that pays."""

from __future__ import annotations

import pytest

from planner.core.cluster import Node
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.plan import Plan
from planner.core.problem import Problem, Serving
from planner.plan.predict import predict
from planner.plan.solve import solve
from tests.core.world import device, engine, problem, quant


def with_sync(sync_s: float) -> Engine:
    """All-reduces between devices that take so long; layers of their own are a choice."""
    calibration = Calibration(
        efficiency={"*": Efficiency(bandwidth=1.0, compute=1.0)},
        kv_bandwidth=1.0,
        attention_compute=1.0,
        sync_s=sync_s,
        source="made up for tests",
    )
    return engine(calibrations=(calibration,), other_splits=("layer",))


def one_node(sync_s: float) -> Problem:
    """Two devices in one node, slow enough that reading weights is what counts."""
    slow = device(memory_bandwidth=1e8)
    return problem([Node(id="a", device="chip", count=2)], devices=[slow], engine=with_sync(sync_s))


@pytest.mark.parametrize(("sync_s", "split"), [(1e-7, None), (1e-2, "layer")])
def test_devices_share_layers_where_synchronising_is_cheap(
    sync_s: float, split: str | None
) -> None:
    solution = solve(one_node(sync_s))
    (stage,) = solution.plan.pipelines[0].stages
    assert stage.split == split
    assert solution.gap == 0
    other = stage.model_copy(update={"split": "layer" if split is None else None})
    pipeline = solution.plan.pipelines[0].model_copy(update={"stages": (other,)})
    worse = predict(one_node(sync_s), Plan(pipelines=(pipeline,)))
    assert worse.metrics.mean_e2el_ms is not None
    assert worse.metrics.mean_e2el_ms > solution.value


def mixed(allowed: bool) -> Problem:
    """A fast node that only holds half the model in the wide scheme, whose products are quick."""
    quick = Efficiency(bandwidth=1.0, compute=1.0)
    poor = Efficiency(bandwidth=0.002, compute=1.0)
    calibrations = (
        Calibration(
            device="old",
            efficiency={"bf16": quick, "q4": poor},
            kv_bandwidth=1.0,
            attention_compute=1.0,
            source="made up for tests",
        ),
        Calibration(
            device="new",
            efficiency={"bf16": quick, "q4": quick},
            kv_bandwidth=1.0,
            attention_compute=1.0,
            source="made up for tests",
        ),
    )
    made = engine(calibrations=calibrations)
    kinds = [
        device("old", memory=3.3e5, memory_bandwidth=1e8),
        device("new", memory=1.9e5, memory_bandwidth=1e8),
    ]
    return problem(
        [Node(id="a", device="old"), Node(id="b", device="new")],
        devices=kinds,
        engine=made,
        quants=(quant(), quant("q4", weight_bits=4.5, compute_dtype="bf16")),
        serving=Serving(mixed_quants=allowed),
    )


def test_stages_differ_in_quantization_where_that_is_allowed_and_pays() -> None:
    solution = solve(mixed(True))
    used = {stage.node: stage.quant for stage in solution.plan.pipelines[0].stages}
    assert used == {"a": "bf16", "b": "q4"}
    assert solution.gap == 0
    assert solution.candidates[0].name.startswith("1 pipeline, bf16 or q4")
    alike = solve(mixed(False))
    assert len({stage.quant for one in alike.plan.pipelines for stage in one.stages}) == 1
    assert alike.value > solution.value
