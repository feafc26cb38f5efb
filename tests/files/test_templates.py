from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.errors import UsageError
from planner.files.scenario import load_scenario
from planner.files.templates import template, templates


def test_a_template_brings_all_it_needs(tmp_path: Path) -> None:
    assert {"demo", "marketplace", "two-homes"} <= set(templates())
    files = template("marketplace", tmp_path)
    assert list(files) == ["marketplace.yaml", "cloud-baseline.yaml"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert load_scenario(tmp_path / "marketplace.yaml").name == tmp_path.name


def test_an_unknown_template_is_told_with_what_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean marketplace"):
        template("marketplce", Path("here"))
