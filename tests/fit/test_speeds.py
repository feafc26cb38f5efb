"""Constants that made a table are found in it, and what no row tells stays as usual."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest

from planner.core.cost.estimate import Load
from planner.core.cost.measured import SPEEDS, MeasuredSpeed, Speed
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.files.catalogue import Catalogue
from planner.fit.engines import calibrate
from planner.fit.knobs import TUNED, USUAL, Knob, Knobs, Place, calibration, moved, shift
from planner.fit.speeds import FittedSpeeds, Row, at_place, errors, fit_speeds, left_out

KNOWN = Catalogue(environ={})
TRUE: Mapping[Knob, float] = {
    ("bandwidth", "", ""): 0.1,
    ("bandwidth", "class", "nvidia_geforce"): 0.15,
    ("compute", "", ""): -0.3,
    ("compute", "scheme", "int8"): -0.5,
    ("scale_flops", "", ""): 0.5,
    ("layer_overhead_s", "", ""): 0.4,
    ("layer_overhead_s", "chips", "Ampere"): 0.3,
}


def card(kind: str, name: str) -> object:
    return KNOWN.get(kind, name)[0]  # type: ignore[arg-type]


def engine() -> Engine:
    found = card("engines", "llama.cpp")
    assert isinstance(found, Engine)
    return found


def device(name: str) -> Device:
    found = card("devices", name)
    assert isinstance(found, Device)
    return found


def table(devices: tuple[str, ...], noise: float = 0.0) -> list[Row]:
    """What llama-bench would print if the engine had the constants of ``TRUE``."""
    drawn = random.Random(7)
    found: list[Row] = []
    speeds: tuple[tuple[Speed, Load], ...] = (
        ("decode_tok_s", Load(1, 128)),
        ("decode_tok_s", Load(1, 128, cached_tokens=8000)),
        ("prefill_tok_s", Load(512, 1)),
    )
    for name in devices:
        for shape in ("llama-3.2-1b", "llama-3.1-8b"):
            for scheme in ("q4_k_m", "fp16"):
                model, quant = card("models", shape), card("quants", scheme)
                assert isinstance(model, ModelSpec)
                assert isinstance(quant, QuantScheme)
                for speed, load in speeds:
                    made = at_place(engine(), TRUE, device(name), ("*", "int8"), True)
                    row = MeasuredSpeed(device(name), 1, model, quant, load, speed, 1.0)
                    value = SPEEDS[speed](row.estimated(made)) * math.exp(drawn.gauss(0, noise))
                    found.append(
                        (
                            engine(),
                            MeasuredSpeed(device(name), 1, model, quant, load, speed, value),
                        )
                    )
    return found


def median(values: list[float]) -> float:
    return sorted(abs(value) for value in values)[len(values) // 2]


def test_a_table_without_noise_is_said_again() -> None:
    found = fit_speeds(table(("rtx-3090", "rtx-4090")), fresh=True)
    assert max(abs(error) for error in found.errors) < 0.03


def test_other_devices_are_predicted_by_what_was_learned() -> None:
    rows = table(("rtx-3080", "rtx-3090", "rtx-4090"), noise=0.02)
    fitted = fit_speeds(rows, fresh=True)
    before = errors(rows, {}, True)
    after = left_out(rows, fitted, True)
    assert median(after) < 0.05
    assert median(after) < median(before) / 3


def test_what_is_left_out_is_not_remembered() -> None:
    rows = table(("rtx-3090", "rtx-4090"))
    fitted = fit_speeds(rows, fresh=True, most=8)
    knowing = FittedSpeeds(dict.fromkeys(fitted.turned, 0.7), fitted.errors)
    assert left_out(rows, knowing, True) == left_out(rows, fitted, True)


def test_a_wrong_row_is_not_followed() -> None:
    rows = table(("rtx-3090", "rtx-4090"))
    chip, bad = rows[0]
    wrong = MeasuredSpeed(
        bad.device, bad.count, bad.model, bad.quant, bad.load, bad.speed, bad.value * 20
    )
    found = fit_speeds([(chip, wrong), *rows[1:]], fresh=True)
    assert found.errors[0] < -0.9
    assert median(list(found.errors[1:])) < 0.05


def test_a_generation_says_something_of_other_classes() -> None:
    rows = table(("rtx-3090", "rtx-4090"))
    turned = fit_speeds(rows, fresh=True).turned
    elsewhere = Place("llama.cpp", "nvidia_rtx_pro", "Ampere")
    ampere = shift(turned, elsewhere, "layer_overhead_s")
    ada = shift(turned, Place("llama.cpp", "nvidia_rtx_pro", "Ada Lovelace"), "layer_overhead_s")
    assert ampere > ada + 0.1
    assert shift(turned, Place("other", "cpu", "Zen 4"), "sync_s") == 0.0


def test_only_knobs_that_a_row_feels_are_turned() -> None:
    one = [pair for pair in table(("rtx-3090",)) if pair[1].speed == "decode_tok_s"]
    names = {name for name, _, _ in Knobs.for_rows(one).names}
    assert "experts" not in names
    assert "sync_s" not in names
    assert "request_s" not in names
    assert {"bandwidth", "layer_overhead_s"} <= names


@pytest.mark.parametrize("name", USUAL)
def test_constants_stay_possible(name: str) -> None:
    assert moved(name, None, 50.0) == USUAL[name].high
    assert moved(name, None, -50.0) == USUAL[name].low
    assert moved(name, None, 0.0) == USUAL[name].value


def test_tuned_kernels_begin_at_what_libraries_reach() -> None:
    settings = {"tuned_kernels": True, "known_admission_steps": {"Ampere": 40.0}}
    tuned = engine().model_copy(update=settings)
    names = {name for name, _, _ in Knobs.for_rows([(tuned, table(("rtx-3090",))[0][1])]).names}
    assert "flop_per_joule" not in names
    place = Place.of(tuned, device("rtx-3090"))
    fresh = calibration({}, place, ["*"], None)
    assert fresh.for_quant("*", "*").compute == TUNED["compute"].value > USUAL["compute"].value
    assert fresh.for_quant("*", "*").flop_per_joule == TUNED["flop_per_joule"].value
    assert fresh.admission_steps == 40.0
    assert calibration({}, Place.of(tuned, device("rtx-4090")), ["*"], None).admission_steps is None
    begun = calibration({}, place, ["*"], fresh.model_copy(update={"admission_steps": 7.0}))
    assert begun.admission_steps == 7.0


def test_cards_keep_what_was_not_measured_and_say_what_was() -> None:
    rows = table(("rtx-3090", "rtx-4090"), noise=0.02)
    devices = [device(name) for name in ("rtx-3090", "rtx-4090", "rtx-a6000", "apple-m1")]
    result = calibrate(rows, devices, "made up for tests")
    (found,) = result.engines
    assert found.calibration(device("rtx-3090")).source == "made up for tests"
    assert found.calibration(device("rtx-3090")).tier == 1
    apple = device("apple-m1")
    assert found.calibration(apple) == engine().calibration(apple)
    assert len(result.rows) == len(rows)
    assert found.hop_s == engine().hop_s
    fresh = calibrate(rows, devices, "made up for tests", fresh=True).engines[0]
    assert fresh.calibration(device("rtx-a6000")).tier == 0
    assert fresh.calibration(device("rtx-a6000")).error_band is None


def test_a_card_covers_what_another_release_tells_of_a_generation() -> None:
    older = card("engines", "llama.cpp-2024")
    assert isinstance(older, Engine)
    rows = [*table(("rtx-3090",)), *((older, row) for _, row in table(("rtx-4090",)))]
    devices = [device(name) for name in ("rtx-3090", "rtx-4090", "rtx-5090", "gtx-1080-ti")]
    found = calibrate(rows, devices, "made up for tests", fresh=True, judge=False).engines[0]
    assert found.id == "llama.cpp"
    assert found.calibration(device("rtx-4090")).architecture == "Ada Lovelace"
    unseen = found.calibration(device("rtx-5090"))
    assert (unseen.device_class, unseen.architecture) == ("nvidia_geforce", "")


def test_a_device_that_no_row_is_of_has_what_is_usual_for_its_class() -> None:
    """Its class is known from other generations, and it is predicted nearly as well as they are."""
    rows = table(("rtx-3090", "rtx-3080", "rtx-4080", "rtx-4090"), noise=0.02)
    seen = [pair for pair in rows if not pair[1].device.id.startswith("rtx-4")]
    turned = fit_speeds(seen, fresh=True).turned
    unseen = [pair for pair in rows if pair[1].device.id.startswith("rtx-4")]
    assert median(errors(unseen, turned, True)) < 0.15
    assert median(errors(unseen, turned, True)) < median(errors(unseen, {}, True)) / 2


def test_there_must_be_rows() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        calibrate([], [], "nothing")
