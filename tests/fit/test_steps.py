import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.core.cost import Batch
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Efficiency
from planner.fit.constants import Free, count, from_vector, to_vector
from planner.fit.steps import error_band, fit
from tests.core.world import device, model, quant

START = Calibration(
    efficiency={"*": Efficiency(bandwidth=0.5, compute=((1, 0.2), (64, 0.3)))},
    layer_overhead=1e-5,
    step_overhead=1e-4,
    source="a guess",
)
FREE = Free(
    scalars=("layer_overhead_s", "step_overhead_s", "kv_bandwidth"),
    bandwidth=("*",),
    compute=("*",),
)


def steps(truth: Calibration, noise: tuple[float, ...] = (1.0,)) -> list[MeasuredStep]:
    """Steps of three shapes that take exactly what ``truth`` says, times the noise in turn."""
    made = []
    for hidden, layers in ((512, 8), (1024, 4), (2048, 2)):
        spec = model(
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=4 * hidden,
            num_attention_heads=8,
            num_key_value_heads=2,
            vocab_size=1000,
            max_position_embeddings=100_000,
        )
        batches = [Batch.decode(n, n * c) for n in (1, 2, 8) for c in (10, 4000)]
        batches += [Batch.prefill(n) for n in (16, 64, 256, 1024)]
        for batch in batches:
            step = MeasuredStep(device(), spec, 0, layers, quant(), batch, 1.0)
            seconds = step.predicted_s(truth) * noise[len(made) % len(noise)]
            made.append(MeasuredStep(device(), spec, 0, layers, quant(), batch, seconds))
    return made


TRUTH = Calibration(
    efficiency={"*": Efficiency(bandwidth=0.8, compute=((1, 0.05), (64, 0.6)))},
    kv_bandwidth=0.4,
    layer_overhead=8e-5,
    step_overhead=3e-4,
    source="the truth",
)


def test_a_fit_finds_the_constants_that_made_the_steps() -> None:
    found = fit(steps(TRUTH), START, FREE)
    assert max(map(abs, found.errors)) < 1e-3
    assert found.constants == 6
    assert found.calibration.layer_overhead_s == pytest.approx(8e-5, rel=0.02)
    assert found.calibration.efficiency["*"].bandwidth == pytest.approx(0.8, rel=0.02)


def test_one_wild_measurement_does_not_bend_the_rest() -> None:
    wild = steps(TRUTH)
    wild[3] = MeasuredStep(
        wild[3].device, wild[3].model, 0, wild[3].stop, quant(), wild[3].batch, wild[3].seconds * 5
    )
    found = fit(wild, START, FREE)
    others = [abs(error) for index, error in enumerate(found.errors) if index != 3]
    assert sorted(others)[len(others) // 2] < 0.02


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="3 measured steps cannot fix 6 constants"):
        fit(steps(TRUTH)[:3], START, FREE)


@settings(max_examples=30)
@given(st.lists(st.floats(1e-3, 0.3), min_size=6, max_size=6))
def test_constants_survive_the_way_to_a_vector_and_back(values: list[float]) -> None:
    vector = to_vector(START, FREE)
    assert len(vector) == count(START, FREE) == len(values)
    moved = [old + value for old, value in zip(vector, values, strict=True)]
    again = to_vector(from_vector(START, FREE, moved), FREE)
    assert again == pytest.approx(moved, rel=1e-9)


def test_an_error_band_is_the_median_and_the_p90() -> None:
    band = error_band([0.1, -0.2, 0.3, -0.4, 0.5], "here")
    assert (band.median, band.p90) == (pytest.approx(0.3), pytest.approx(0.46))
