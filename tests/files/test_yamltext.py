from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.files.yamlfile import parse_yaml
from planner.files.yamltext import WIDTH, to_yaml

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30) | st.sampled_from(
    [
        "no",
        "On",
        "012",
        "1:30",
        "1e9",
        "~",
        "null",
        "",
        "24 GiB",
        "a: b",
        "a #b",
        "- x",
        "2026-01-01",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=6),
    max_leaves=40,
)
ROOTS = st.dictionaries(TEXT, VALUES, max_size=6).filter(bool)


def same(left: Any, right: Any) -> bool:
    """Equal values of equal types, all the way down."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


@given(values=ROOTS)
@settings(max_examples=50)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    assert same(parse_yaml(to_yaml(values), "f.yaml").value, values)


@given(values=st.dictionaries(TEXT, TEXT | st.booleans() | st.integers(), max_size=6).filter(bool))
def test_other_readers_of_yaml_see_the_same(values: dict[str, Any]) -> None:
    assert same(yaml.safe_load(to_yaml(values)), values)


def test_layout_is_block_style_with_short_things_in_a_line() -> None:
    stages = [{"node": f"n{i}", "start": i, "stop": i + 1, "quant": "q8_0"} for i in range(3)]
    text = to_yaml({"name": "a b", "when": "2026-01-01", "plan": {"stages": stages, "none": []}})
    assert text == (
        'name: a b\nwhen: "2026-01-01"\nplan:\n  stages:\n'
        "    - {node: n0, start: 0, stop: 1, quant: q8_0}\n"
        "    - {node: n1, start: 1, stop: 2, quant: q8_0}\n"
        "    - {node: n2, start: 2, stop: 3, quant: q8_0}\n"
        "  none: []\n"
    )
    assert max(map(len, text.splitlines())) <= WIDTH


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_no_file_may_hold_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        to_yaml({"a": value})
    with pytest.raises(TypeError, match="set cannot be written"):
        to_yaml({"a": {1, 2}})
