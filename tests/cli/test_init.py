from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.world import Terminal
from tests.test_scenarios import TEMPLATES


def test_it_writes_a_scenario_that_is_valid(planner: Terminal, tmp_path: Path) -> None:
    done = planner("init", tmp_path / "new")
    written = [Path(line) for line in done.stdout.splitlines()]
    assert (done.code, [path.name for path in written]) == (0, ["two-homes.yaml"])
    assert f"planner plan {written[0]}" in done.stderr
    assert planner("validate", *written).code == 0


def test_it_is_called_as_its_folder_is(planner: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "us: Ada & I"
    planner("init", folder)
    text = (folder / "two-homes.yaml").read_text()
    assert f"planner plan '{folder}/two-homes.yaml'" in text
    assert "scenarios/" not in text
    shown = planner("show", folder / "two-homes.yaml", "--format", "json").document
    assert shown["name"] == "us: Ada & I"


def test_alternatives_come_along(planner: Terminal, tmp_path: Path) -> None:
    values = planner(
        "init", tmp_path / "new", "--template", "marketplace", "--format", "json"
    ).document
    assert len(values["files"]) > 1
    assert all(Path(name).is_file() for name in values["files"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_scenarios_that_load(planner: Terminal, tmp_path: Path, name: str) -> None:
    written = planner("init", tmp_path / "new", "--template", name).stdout.splitlines()
    assert written[0] == str(tmp_path / "new" / f"{name}.yaml")
    done = planner("validate", *written)
    assert (done.code, done.stdout) == (0, "")


def test_nothing_is_replaced_without_force(planner: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "two-homes.yaml"
    file.write_text("mine\n")
    done = planner("init", tmp_path)
    assert (done.code, done.stdout, file.read_text()) == (2, "", "mine\n")
    assert "--force" in done.stderr
    assert planner("init", tmp_path, "--force").code == 0
    assert file.read_text() != "mine\n"


def test_an_unknown_template_is_answered_with_the_near_one(
    planner: Terminal, tmp_path: Path
) -> None:
    done = planner("init", tmp_path / "new", "--template", "market")
    assert done.code == 2
    assert "did you mean marketplace?" in done.stderr
    assert not (tmp_path / "new").exists()
