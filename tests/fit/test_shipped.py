"""The shipped engine profiles are what ``planner calibrate`` makes of the published tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.calibration import FITS
from planner.core.device import Device
from planner.core.engine import Calibration, Engine
from planner.files.catalogue import Catalogue
from planner.files.measurements import read_measurements
from planner.fit.engines import calibrate

DATA = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data"))
KNOWN = Catalogue(environ={})


def shipped(name: str) -> Engine:
    engine, _ = KNOWN.get("engines", name)
    assert isinstance(engine, Engine)
    return engine


def constants(entry: Calibration) -> dict[str, object]:
    """All but what the judgement on devices left out adds."""
    return entry.model_dump(exclude={"error_band", "source"})


@pytest.mark.slow
@pytest.mark.parametrize("table", FITS)
def test_profiles_are_refitted_to_the_same_constants(table: str) -> None:
    path = DATA / table
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    engines = [shipped(name) for name in FITS[table][2]]
    rows = []
    for engine in engines:
        assert engine.measured_as is not None
        found = read_measurements(path, KNOWN, engine.measured_as, True)
        rows += [(engine, row) for row in found.rows]
    cards = (KNOWN.get("devices", name)[0] for name in KNOWN.names("devices"))
    devices = [card for card in cards if isinstance(card, Device)]
    refitted = calibrate(rows, devices, "the test", fresh=True, judge=False)
    for old, new in zip(engines, refitted.engines, strict=True):
        assert old.request_s == new.request_s
        assert list(map(constants, old.calibrations)) == list(map(constants, new.calibrations))
