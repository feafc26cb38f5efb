import pytest

from planner.core.cost import Batch
from planner.core.cost.compute import Chip, head_time, layer_time
from planner.core.engine import Calibration, Efficiency, Engine
from planner.fit.kernels import KernelTimes, calibrate_kernels
from tests.core.world import CARD, device, model, quant

SPEC = model(
    hidden_size=2048,
    num_hidden_layers=4,
    num_attention_heads=16,
    num_key_value_heads=4,
    intermediate_size=8192,
    vocab_size=10_000,
)
TRUTH = Calibration(
    efficiency={"*": Efficiency(bandwidth=0.8, compute=((16, 0.05), (64, 0.2), (512, 0.5)))},
    kv_bandwidth=0.6,
    mixed_kv_bandwidth=0.3,
    attention_compute=0.4,
    layer_overhead=5e-5,
    sequence_layer_overhead=2e-7,
    step_overhead=1e-4,
    sequence_overhead=1e-6,
    source="made up",
)
CHIP = Chip(device("chip"), TRUTH)
LAYER = SPEC.layers[2]
BATCHES = [
    *((Batch.decode(n, n * each),) for n in (16, 64) for each in (100, 1000, 8000)),
    *((Batch.prefill(n, cached),) for n in (64, 512) for cached in (0, 1000, 8000)),
    *((Batch.prefill(64), Batch.decode(16, 16 * each)) for each in (1000, 8000)),
]


def layer_s(*batches: Batch) -> float:
    return layer_time(SPEC, LAYER, quant(), CHIP, *batches).total_s


def profiled() -> KernelTimes:
    """Kernel times that are exactly what TRUTH says, overheads shown with attention."""
    nothing = TRUTH.model_copy(update={"layer_overhead_s": 0.0, "sequence_layer_overhead_s": 0.0})
    chip = Chip(CHIP.device, nothing)

    def products_s(tokens: float) -> float:
        attention = Batch.decode(tokens, 0)
        return layer_time(SPEC, LAYER, quant(), chip, attention).total_s - 4 * 2048 * tokens / (
            10e12 * 0.4
        )

    return KernelTimes(
        CHIP.device,
        SPEC,
        quant(),
        {tokens: products_s(tokens) for tokens in (1.0, 16.0, 64.0, 80.0, 512.0)},
        {1.0: 1e-9, 512.0: 1e-9},
        [
            (batches, layer_s(*batches) - products_s(sum(one.new_tokens for one in batches)))
            for batches in BATCHES
        ],
        {
            n: head_time(SPEC, quant(), CHIP, Batch.decode(n, 0)).total_s + 1e-4 + n * 1e-6
            for n in (1.0, 64.0)
        },
    )


def engine(*calibrations: Calibration) -> Engine:
    values = {"id": "server", "name": "server", "version": "1", "calibrations": calibrations}
    return Engine.model_validate(values | CARD)


OLD = TRUTH.model_copy(update={"device_class": "test", "layer_overhead_s": 1.0})


def test_constants_come_back_from_kernel_times_that_they_made() -> None:
    found = calibrate_kernels(engine(OLD), profiled(), "a profiler")
    here = found.engine.calibration(CHIP.device)
    assert here.device == "chip"
    assert here.tier == 2
    assert here.efficiency["*"].bandwidth == pytest.approx(0.8, rel=1e-3)
    for name in (
        *("kv_bandwidth", "mixed_kv_bandwidth", "attention_compute", "layer_overhead_s"),
        *("sequence_layer_overhead_s", "step_overhead_s", "sequence_overhead_s"),
    ):
        assert getattr(here, name) == pytest.approx(getattr(TRUTH, name), rel=0.02), name
    assert max(map(abs, found.fitted)) < 0.01
    assert max(map(abs, found.mixed)) < 0.01


def test_kin_that_nobody_measured_is_taken_to_be_alike() -> None:
    other = device("other", architecture="new")
    blank = profiled()
    chip = device("chip", architecture="new")
    times = KernelTimes(
        chip, SPEC, quant(), blank.products, blank.between, blank.attention, blank.ends
    )
    found = calibrate_kernels(engine(OLD), times, "a profiler").engine
    kin = found.calibration(other)
    assert (kin.tier, kin.error_band) == (0, None)
    assert kin.kv_bandwidth == found.calibration(chip).kv_bandwidth
    again = calibrate_kernels(found, times, "a profiler").engine
    assert again == found


def test_a_measured_class_keeps_its_constants() -> None:
    measured = OLD.model_copy(update={"tier": 1})
    found = calibrate_kernels(engine(measured), profiled(), "a profiler").engine
    assert found.calibration(device("other")) == measured


def test_left_out_batch_sizes_are_predicted_from_the_others() -> None:
    found = calibrate_kernels(engine(OLD), profiled(), "a profiler")
    assert len(found.left_out) == len(found.fitted) == 12
    band = found.engine.calibration(CHIP.device).error_band
    assert band is not None
    assert band.median >= max(0.0, sorted(map(abs, found.left_out))[5])
