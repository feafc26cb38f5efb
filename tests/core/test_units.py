import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from planner.core.units import FROM_FILE, UNITS, Bytes, BytesPerSecond, Fraction, parse, plain, show


class Thing(BaseModel):
    size: Bytes = 0.0
    rate: BytesPerSecond = 1.0
    share: Fraction = 0.0


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("24 GiB", "bytes", 24 * 2**30),
        ("24GB", "bytes", 24e9),
        ("100 Mbit/s", "bytes_per_s", 12.5e6),
        ("936 GB/s", "bytes_per_s", 936e9),
        ("35 ms", "s", 0.035),
        ("1e3 us", "s", 1e-3),
        ("0.40 USD/h", "usd_per_hour", 0.40),
        ("0.09 USD/GB", "usd_per_byte", 0.09e-9),
        ("0.36 USD/kWh", "usd_per_joule", 1e-7),
        ("0.60 USD/Mtok", "usd_per_token", 0.60e-6),
        ("50 %", "fraction", 0.5),
        ("0.5", "fraction", 0.5),
    ],
)
def test_text_becomes_base_units(text: str, dimension: str, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension", "says"),
    [
        ("100 Gbps", "bytes_per_s", "choose from"),
        ("24 gib", "bytes", "did you mean GiB?"),
        ("24", "bytes", "has no unit"),
        ("fast", "s", "is not a quantity"),
        ("24 GB", "s", "does not fit here"),
    ],
)
def test_ambiguous_text_is_refused_with_the_mend(text: str, dimension: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text, dimension)


def test_bare_numbers_are_refused_in_files_and_accepted_in_code() -> None:
    assert Thing.model_validate({"size": 10}).size == 10.0
    with pytest.raises(ValidationError, match="has no unit"):
        Thing.model_validate({"size": 10}, context={FROM_FILE: True})
    assert Thing.model_validate({"share": 0.3}, context={FROM_FILE: True}).share == 0.3


@pytest.mark.parametrize("value", ["-1 GiB", -1, math.nan, math.inf, True, None, [1]])
def test_impossible_sizes_are_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Thing.model_validate({"size": value})


@given(st.floats(1e-9, 1e15), st.sampled_from(sorted(UNITS)))
def test_what_is_shown_can_be_read_back(value: float, dimension: str) -> None:
    assert parse(show(value, dimension, digits=17), dimension) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("value", "dimension", "said"),
    [
        (0.9999e-3, "s", "1 ms"),
        (0.994e-3, "s", "994 us"),
        (59.99, "s", "1 min"),
        (1010 * 2.0**20, "bytes", "1010 MiB"),
        (1023.9 * 2.0**20, "bytes", "1 GiB"),
    ],
)
def test_the_unit_is_that_of_the_rounded_value(value: float, dimension: str, said: str) -> None:
    assert show(value, dimension, 3) == said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.25, "0.25"),
        (999.96, "1,000"),
        (5922.4, "5,922"),
        (10758.0, "10,760"),
        (-1e6, "-1,000,000"),
        (1.5e-7, "0.00000015"),
    ],
)
def test_figures_are_no_powers_of_ten(value: float, text: str) -> None:
    assert plain(value) == text
