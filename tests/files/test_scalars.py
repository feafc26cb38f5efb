from __future__ import annotations

import pytest

from planner.files.scalars import Scalar, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("0", 0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e9", 1e9),
        ("1.e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("~", None),
        ("no", "no"),
        ("on", "on"),
        ("YES", "YES"),
        ("24 GiB", "24 GiB"),
        ("2026-08-21", "2026-08-21"),
        ("1.2.3", "1.2.3"),
        ("10.0.0.1:8000", "10.0.0.1:8000"),
        ("0x1F", "0x1F"),
        ("-", "-"),
        (".", "."),
    ],
)
def test_words_mean_what_people_mean(text: str, value: Scalar) -> None:
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("012", "write 12"),
        ("-007", "write 7"),
        ("00", "write 0"),
        ("1:30", "base 60"),
        ("190:20:30", "base 60"),
        (".nan", "not a finite"),
        ("-.INF", "not a finite"),
        ("1e999", "too large"),
        ("9" * 5000, "too large"),
    ],
)
def test_ambiguous_words_are_refused_with_the_mend(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(text)
