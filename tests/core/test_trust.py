from __future__ import annotations

from planner.core.engine import Engine
from planner.core.trust import ErrorBand, Measured, New, Trust, together
from tests.core.world import device, engine


def band(median: float, p90: float) -> ErrorBand:
    return ErrorBand(median=median, p90=p90, source="left out")


def measured_engine() -> Engine:
    bands: dict[New, dict[str, ErrorBand]] = {
        "device": {"prompt": band(0.1, 0.4), "token": band(0.05, 0.1)},
        "model": {"prompt": band(0.2, 0.3), "token": band(0.04, 0.2)},
        "both": {"prompt": band(0.3, 0.5), "token": band(0.06, 0.3)},
    }
    entry = engine().calibrations[0]
    known = entry.model_copy(
        update={"device_class": device().device_class, "tier": 1, "error_bands": bands}
    )
    elsewhere = {"prompt": band(0.5, 2.0), "token": band(0.3, 0.9)}
    return engine().model_copy(
        update={
            "calibrations": (known, entry),
            "measured": Measured(devices=("seen",), models=("known",), elsewhere=elsewhere),
        }
    )


def asked(device_id: str, model_id: str, device_class: str = "") -> Trust:
    chip = device(id=device_id)
    if device_class:
        chip = chip.model_copy(update={"device_class": device_class})
    return measured_engine().trust(chip, model_id, "q")


def test_a_band_is_that_of_what_was_not_measured() -> None:
    found = {
        names: (trust.new, trust.bands["prompt"].p90, trust.bands["token"].p90)
        for names in (("seen", "m"), ("chip", "known"), ("chip", "m"))
        if (trust := asked(*names))
    }
    assert found == {
        ("seen", "m"): ("model", 0.3, 0.2),
        ("chip", "known"): ("device", 0.4, 0.1),
        ("chip", "m"): ("both", 0.5, 0.3),
    }


def test_where_nothing_is_new_the_narrower_band_of_each_holds() -> None:
    trust = asked("seen", "known")
    assert trust.new is None
    assert (trust.bands["prompt"].median, trust.bands["prompt"].p90) == (0.1, 0.3)
    assert (trust.bands["token"].median, trust.bands["token"].p90) == (0.04, 0.1)


def test_a_class_without_rows_has_the_error_of_classes_left_out() -> None:
    trust = asked("chip", "known", "of no row")
    assert (trust.tier, trust.new) == (0, "class")
    assert trust.band is not None
    assert trust.band.p90 == 2.0


def test_a_calibration_is_worth_nothing_in_a_format_it_was_not_measured_in() -> None:
    whole = band(0.02, 0.05)
    changes = {"tier": 2, "measured_in": ("bf16",), "error_band": whole}
    entry = engine().calibrations[0].model_copy(update=changes)
    known = engine().model_copy(update={"calibrations": (entry,)})
    assert known.trust(device(), "any", "bf16") == Trust(2, whole=whole)
    assert known.trust(device(), "any", "fp8") == Trust(0)
    assert engine().trust(device(), "any", "fp8") == Trust(engine().calibrations[0].tier)


def test_kernels_that_were_timed_of_one_model_say_less_of_another() -> None:
    known = measured_engine()
    changes = {"device": "seen", "tier": 2, "error_band": band(0.02, 0.05), "measured_of": ("m",)}
    entry = known.calibrations[1].model_copy(update=changes)
    timed = known.model_copy(update={"calibrations": (*known.calibrations, entry)})
    assert timed.trust(device(id="seen"), "m", "q") == Trust(2, whole=entry.error_band)
    other = timed.trust(device(id="seen"), "other", "q")
    assert (other.tier, other.new, other.bands["prompt"].p90) == (2, "model", 0.3)


def test_a_class_that_only_other_engines_have_rows_of_is_no_surer_than_a_measured_one() -> None:
    known = measured_engine()
    narrow: dict[New, dict[str, ErrorBand]] = {
        "both": {"prompt": band(0.4, 0.45), "token": band(0.01, 0.7)}
    }
    changes = {"device_class": "elsewhere", "tier": 0, "error_bands": narrow}
    entry = known.calibrations[0].model_copy(update=changes)
    known = known.model_copy(update={"calibrations": (*known.calibrations, entry)})
    trust = known.trust(
        device(id="chip").model_copy(update={"device_class": "elsewhere"}), "m", "q"
    )
    assert (trust.tier, trust.new) == (0, "both")
    assert trust.bands_figures == {
        "prompt": {"median": 0.4, "p90": 0.5},
        "token": {"median": 0.06, "p90": 0.7},
    }


def test_a_plan_has_of_each_regime_the_widest_band_of_its_stages() -> None:
    sure = Trust(1, "model", {"prompt": band(0.1, 0.2), "token": band(0.1, 0.9)})
    wide = Trust(1, "device", {"prompt": band(0.3, 0.5), "token": band(0.01, 0.02)})
    timed, unknown = Trust(2, whole=band(0.3, 0.6)), Trust(0)
    plan = together([sure, wide])
    assert (plan.tier, plan.new) == (1, "model")
    assert plan.bands == {"prompt": band(0.3, 0.5), "token": band(0.1, 0.9)}
    assert together([timed, wide]).bands == {"prompt": band(0.3, 0.6), "token": band(0.3, 0.6)}
    assert together([timed, unknown]) == Trust(0, whole=band(0.3, 0.6))
    assert together([unknown]) == unknown
