"""The shipped engine profiles are what ``planner calibrate`` makes of the published tables."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.calibration import FITS, KERNELS
from planner.core.device import Device
from planner.core.engine import Calibration, Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.files.catalogue import Catalogue, Kind
from planner.files.kernels import read_kernels
from planner.files.measurements import read_measurements
from planner.fit.engines import calibrate
from planner.fit.kernels import calibrate_kernels
from planner.fit.speeds import held

DATA = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data"))
KNOWN = Catalogue(environ={})


def shipped(name: str) -> Engine:
    engine, _ = KNOWN.get("engines", name)
    assert isinstance(engine, Engine)
    return engine


def constants(entry: Calibration) -> dict[str, object]:
    """All but what the judgement on devices left out adds."""
    return entry.model_dump(exclude={"error_band", "error_bands", "source"})


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
        rows += [(engine, row) for row in held(engine, found.rows)]
    cards = (KNOWN.get("devices", name)[0] for name in KNOWN.names("devices"))
    devices = [card for card in cards if isinstance(card, Device)]
    refitted = calibrate(rows, devices, "the test", fresh=True, judge=False)
    for old, new in zip(engines, refitted.engines, strict=True):
        speeds = [entry for entry in old.calibrations if not _of_kernels(entry)]
        assert old.request_s == new.request_s
        again = [entry for entry in new.calibrations if not _of_kernels(entry)]
        assert list(map(constants, speeds)) == list(map(constants, again))


def _of_kernels(entry: Calibration) -> bool:
    return any(source in entry.source for source, *_ in KERNELS.values())


@pytest.mark.slow
@pytest.mark.parametrize("table", KERNELS)
def test_kernel_times_are_refitted_to_the_same_constants(table: str) -> None:
    path = DATA / table
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    _, name, device_name, model_name = KERNELS[table]
    names: tuple[tuple[Kind, str], ...] = (
        ("devices", device_name),
        ("models", model_name),
        ("quants", "bf16"),
    )
    device, model, quant = (KNOWN.get(kind, one)[0] for kind, one in names)
    assert isinstance(device, Device)
    assert isinstance(model, ModelSpec)
    assert isinstance(quant, QuantScheme)
    engine = shipped(name)
    found = calibrate_kernels(engine, read_kernels(path, device, model, quant), "the test")
    assert constants(found.engine.calibration(device)) == constants(engine.calibration(device))
    assert max(map(abs, found.mixed)) < 0.06
