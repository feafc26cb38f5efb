from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.core.engine import Calibration, Efficiency, Engine, ErrorBand
from planner.core.units import UNITS, parse
from planner.files.catalogue import Catalogue
from planner.files.readable import quantity, readable, write_card
from tests.core.world import CARD, device, engine

DIMENSIONS = sorted(set(UNITS) - {"fraction"})


@given(value=st.floats(0, 1e18), dimension=st.sampled_from(DIMENSIONS))
def test_a_quantity_is_read_back_exactly_or_in_its_last_digit(value: float, dimension: str) -> None:
    assert parse(quantity(value, dimension), dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("24 GiB", "bytes"),
        ("936 GB/s", "bytes_per_s"),
        ("100 Mbit/s", "bytes_per_s"),
        ("35 ms", "s"),
        ("0 s", "s"),
        ("165.2 TFLOP/s", "flop_per_s"),
        ("0.4 USD/h", "usd_per_hour"),
        ("0.13 USD/Mtok", "usd_per_token"),
        ("0.3 USD/kWh", "usd_per_joule"),
    ],
)
def test_the_unit_that_people_would_take_is_taken(text: str, dimension: str) -> None:
    found = quantity(parse(text, dimension), dimension)
    assert (found == text) or text == "0 s"


def test_a_card_is_written_as_people_write_it_and_read_back_the_same(tmp_path: Path) -> None:
    chip = device("this-host", memory=15.61 * 2**30, memory_bandwidth=12.345678e9, threads=2)
    calibration = Calibration(
        device="this-host",
        efficiency={
            "bf16": Efficiency(bandwidth=0.61234, compute=((1, 0.2), (64, 0.5))),
            "*": Efficiency(bandwidth=0.5, compute=0.25, layer_overhead=1.7e-5),
        },
        layer_overhead=1.234e-4,
        tier=2,
        error_band=ErrorBand(median=0.05, p90=0.12, source="left out"),
        source="planner probe",
    )
    soft = Engine.model_validate(
        engine().model_dump() | CARD | {"id": "this-host", "calibrations": (calibration,)}
    )
    for card in (chip, soft):
        path = write_card(tmp_path, card)
        assert "\nid:" not in path.read_text()
    catalogue = Catalogue(tmp_path, [tmp_path], {})
    assert catalogue.get("devices", "this-host")[0] == chip
    assert catalogue.get("engines", "this-host")[0] == soft
    assert "layer_overhead: 123.4 us" in (tmp_path / "engines/this-host.yaml").read_text()


@pytest.mark.parametrize("kind", ["devices", "engines", "networks", "quants", "churn", "prices"])
def test_every_bundled_card_survives_being_written(kind: str, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path, [], {})
    for name in catalogue.names(kind):  # type: ignore[arg-type]
        card, _ = catalogue.get(kind, name)  # type: ignore[arg-type]
        write_card(tmp_path, card)
        assert Catalogue(tmp_path, [tmp_path], {}).get(kind, name)[0] == card  # type: ignore[arg-type]


def test_for_the_eye_four_digits_are_enough() -> None:
    shown = readable(device(memory=15.61234567 * 2**30))
    assert (shown["memory"], shown["compute"]) == ("15.61 GiB", {"bf16": "10 TFLOP/s"})
