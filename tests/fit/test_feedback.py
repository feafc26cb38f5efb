from __future__ import annotations

import pytest

from planner.core.cost import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.pace import MOST, moved
from planner.fit.feedback import Seen, corrected
from tests.core.world import device, model, quant

START = Calibration(
    efficiency={"*": Efficiency(bandwidth=0.6, compute=((2.0, 0.2), (32.0, 0.4), (512.0, 0.5)))},
    kv_bandwidth=0.3,
    attention_compute=0.2,
    layer_overhead=5e-5,
    step_overhead=2e-4,
    source="made up for tests",
)
ENGINE = Engine(
    id="e",
    name="e",
    version="1",
    calibrations=(START,),
    hop=1e-4,
    coordinator_step=2e-4,
    source="made up for tests",
    as_of="2026-01-01",
)
BATCHES = [Batch.decode(n, 64 * n) for n in (1, 2, 4)] + [Batch.prefill(n) for n in (64, 200)]


def steps(truth: Calibration) -> list[MeasuredStep]:
    made = [MeasuredStep(device(), model(), 0, 2, quant(), batch, 1.0) for batch in BATCHES]
    return [
        MeasuredStep(one.device, one.model, 0, 2, one.quant, one.batch, one.predicted_s(truth))
        for one in made
    ]


def test_the_median_step_of_each_phase_is_right_afterwards() -> None:
    truth = moved(START, {"decode": 1.5, "prefill": 0.8})
    known = device()
    engine, told = corrected(ENGINE, steps(truth), {known.id: START}, Seen(hop=2.0))
    for one in steps(truth):
        assert one.predicted_s(engine.calibration(known)) == pytest.approx(one.seconds, rel=0.01)
    assert [(one.phase, one.steps) for one in told] == [("decode", 3), ("prefill", 2)]
    assert told[0].before == pytest.approx(1 / 1.5 - 1, rel=0.01)
    assert all(abs(one.after) < 0.01 for one in told)
    assert engine.hop_s == pytest.approx(2e-4)
    assert engine.coordinator_step_s == pytest.approx(2e-4)


def test_a_host_that_was_slow_in_that_minute_is_no_error_of_the_profile() -> None:
    known, slow = device(), moved(START, {"decode": 2.0, "prefill": 2.0})
    engine, told = corrected(ENGINE, steps(slow), {known.id: slow}, Seen())
    assert all(abs(one.before) < 1e-9 for one in told)
    assert engine.calibration(known).efficiency["*"].bandwidth == pytest.approx(0.6)


def test_no_constant_moves_without_bounds() -> None:
    known, far = device(), moved(START, {"decode": 100.0, "prefill": 100.0})
    engine, _ = corrected(ENGINE, steps(far), {known.id: START}, Seen(hop=1e9))
    assert engine.calibration(known).layer_overhead_s == pytest.approx(MOST * 5e-5)
    assert engine.hop_s == pytest.approx(MOST * 1e-4)
