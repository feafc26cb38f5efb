from __future__ import annotations

import pytest

from planner.core.cost import Batch
from planner.core.cost.compute import Chip
from planner.core.cost.loading import MeasuredLoad, warm_up_s
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Efficiency
from planner.core.plan import Stage
from planner.core.trust import ErrorBand
from planner.fit import host
from planner.fit.host import Overheads, host_engine
from tests.core.world import device, model, quant

TRUE = Calibration(
    efficiency={"*": Efficiency(bandwidth=0.6, compute=0.4)},
    kv_bandwidth=0.3,
    attention_compute=0.2,
    layer_overhead=5e-5,
    step_overhead=2e-4,
    source="made up for tests",
)


def step(
    hidden: int, batch: Batch, start: int = 0, stop: int = 4, late_s: float = 0.0
) -> MeasuredStep:
    spec = model(id=f"m{hidden}", hidden_size=hidden, intermediate_size=4 * hidden, vocab_size=4000)
    made = MeasuredStep(device(), spec, start, stop, quant(), batch, 1.0)
    return MeasuredStep(
        device(), spec, start, stop, quant(), batch, made.predicted_s(TRUE) + late_s
    )


@pytest.fixture
def without_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the fits for the error band, which take longest and change no constant."""
    band = ErrorBand(median=0.1, p90=0.2, source="not looked at")
    monkeypatch.setattr(host, "_left_out", lambda *_: band)


@pytest.mark.usefixtures("without_band")
def test_workers_tell_what_unpacking_and_waking_up_take() -> None:
    batches = [Batch.decode(n, n * held) for n in (1, 2, 4, 8, 16) for held in (24, 900)]
    batches += [Batch.prefill(n) for n in (8, 32, 128, 512)]
    timed = [step(hidden, batch) for hidden in (320, 768, 1536) for batch in batches]
    workers = [step(320, Batch.decode(n, 50 * n), late_s=3e-4) for n in (1, 2)]
    workers += [
        step(320, Batch.decode(n, 50 * n), start, start + 2, late_s=10e-4)
        for n in (1, 2)
        for start in (0, 2)
    ]
    engine = host_engine(device(), timed, Overheads(1e-4, 2e-4, workers))
    without = host_engine(device(), timed, Overheads(1e-4, 2e-4))
    more_s = engine.calibrations[0].step_overhead_s - without.calibrations[0].step_overhead_s
    assert more_s == pytest.approx(3e-4, abs=5e-5)
    assert engine.calibrations[0].wake_s == pytest.approx(7e-4, abs=1.2e-4)
    assert without.calibrations[0].wake_s == 0


@pytest.mark.usefixtures("without_band")
def test_what_loading_takes_is_a_line_through_stages_of_two_sizes() -> None:
    """Beyond the steps that warm up: 0.2 s, and 4 ms for each MB, in the median of three."""
    batches = [Batch.decode(n, n * held) for n in (1, 2, 4, 8, 16) for held in (24, 900)]
    batches += [Batch.prefill(n) for n in (8, 32, 128, 512)]
    timed = [step(hidden, batch) for hidden in (320, 768, 1536) for batch in batches]
    engine = host_engine(device(), timed, Overheads(1e-4, 2e-4))
    assert (engine.load_s, engine.load_bytes_per_s) == (0.0, None)
    chip = Chip(device(), engine.calibrations[0])
    loads = []
    for hidden, megabytes in ((320, 10), (768, 110)):
        spec = timed[0].model.model_copy(update={"hidden_size": hidden, "id": f"m{hidden}"})
        stage = Stage(node="a", start=0, stop=4, quant="bf16")
        steps_s = warm_up_s(spec, stage, quant(), chip, 2)
        for late_s in (0.0, 0.01, 1.0):
            seconds = steps_s + 0.19 + 4e-3 * megabytes + late_s
            loads.append(MeasuredLoad(spec, stage, quant(), 2, megabytes * 1e6, seconds))
    engine = host_engine(device(), timed, Overheads(1e-4, 2e-4, loads=loads))
    assert engine.load_s == pytest.approx(0.2, abs=1e-3)
    assert engine.load_bytes_per_s == pytest.approx(250e6, rel=1e-3)
    assert engine.warms_up
