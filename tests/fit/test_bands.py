from __future__ import annotations

import random

from planner.core.cost.estimate import Load
from planner.core.cost.measured import MeasuredSpeed
from planner.fit.bands import Judged, band, bands
from planner.report.calibrate import coverage
from tests.core.world import device, model, quant


def judged(
    engine: str, device_class: str, device_id: str, model_id: str, *errors: float
) -> list[Judged]:
    chip = device(id=device_id).model_copy(update={"device_class": device_class})
    row = MeasuredSpeed(chip, 1, model(id=model_id), quant(), Load(1, 1), "decode_tok_s", 1.0)
    return [Judged(engine, row, 0.0, error, 2 * error, 4 * error) for error in errors]


def test_a_class_speaks_for_itself_and_others_count_as_two_devices() -> None:
    near = [one for name in "abcd" for one in judged("e", "here", name, "m", *[0.1] * 10)]
    far = [one for name in "vwxyz" for one in judged("e", "there", name, "m", *[0.8] * 10)]
    here = band([*near, *far], "e", "here", "device")
    assert (here.median, here.p90) == (0.1, 0.8)  # 40 rows, and 50 that count as 20
    names = [f"n{number}" for number in range(15)]
    more = [one for name in names for one in judged("e", "here", name, "m", *[0.1] * 10)]
    assert band([*near, *more, *far], "e", "here", "device").p90 == 0.1  # 20 of 210
    assert band([*near, *far], "e", "neither", "device").median == 0.8


def test_other_engines_count_as_a_device() -> None:
    near = [one for name in "abc" for one in judged("e", "here", name, "m", *[0.1] * 10)]
    others = [one for name in "vwxyz" for one in judged("o", "here", name, "m", *[0.8] * 10)]
    assert band([*near, *others], "e", "here", "device").p90 == 0.8  # 10 of 40
    more = [one for name in "defghij" for one in judged("e", "here", name, "m", *[0.1] * 10)]
    assert band([*near, *more, *others], "e", "here", "device").p90 == 0.1  # 10 of 110


def test_a_band_is_of_what_was_left_out() -> None:
    rows = judged("e", "here", "a", "m", *[0.3] * 10)
    found = {new: band(rows, "e", "here", new).p90 for new in ("device", "model", "both", "class")}
    assert found == {"device": 0.3, "model": 0.6, "both": 0.6, "class": 1.2}
    assert set(bands(rows, "e", "here", "device")) == {"token"}
    assert band(rows, "e", "here", "device").source == (
        "10 rows on 1 device of the class; without the device"
    )


def test_bands_cover_what_they_say_of_devices_left_out() -> None:
    """Devices of three classes, each off by a share of its own; classes differ by four times."""
    draw = random.Random(5)
    rows = []
    for device_class, spread in (("calm", 0.05), ("usual", 0.1), ("wild", 0.2)):
        for number in range(12):
            off = draw.gauss(0, spread)
            errors = [off + draw.gauss(0, spread / 2) for _ in range(draw.randint(2, 12))]
            rows += judged("e", device_class, f"{device_class}{number}", "m", *errors)
    found = {one.left_out: one for one in coverage(rows)}["device"]
    assert found.rows == len(rows)
    assert 0.45 <= found.median <= 0.6
    assert 0.85 <= found.p90 <= 0.95
