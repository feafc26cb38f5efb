"""The README tells the truth: its commands exist, its flags exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from planner.files.scenario import load_scenario

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
STARTS = ("", "planner", "planner/core")
"""Folders that pages leave out of a module's path."""
SAFE = ("planner estimate", "planner plan", "planner simulate")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_anchors_modules_and_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", text):
        linked = (page.parent / target).read_text() if target else text
        assert anchor in {
            _anchor(title) for title in re.findall(r"^#+ (.*)$", linked, re.MULTILINE)
        }
    test = ""
    for file, name in re.findall(r"`([\w./-]+\.py)?(?:::(\w+))?`", text):
        if file:
            (path, *_) = [ROOT / start / file for start in STARTS if (ROOT / start / file).exists()]
            test = path.read_text()
        assert not name or f"def {name}(" in test


def _anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path) -> None:
    for folder in ("scenarios", "profiles"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    runnable = [command for command in COMMANDS if command.startswith(SAFE)]
    assert len(runnable) >= 4
    said = ""
    for command in runnable:
        words = shlex.split(command)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "planner", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        said += done.stdout
    told = {_shape(line) for line in said.splitlines()}
    shown = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert {_shape(line) for block in shown for line in block.splitlines()} <= told


def _shape(line: str) -> str:
    """A line of output without its figures and the width of its columns."""
    return " ".join(re.sub(r"[\d.,]+", "0", line).split())


def test_the_scenario_of_the_readme_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(text)
    assert load_scenario(tmp_path / "mine.yaml").name == "mine"


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert {"demo", "test"} <= set(named) <= set(targets)


def test_every_command_is_in_the_readme() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "planner", "--help"],
        capture_output=True,
        text=True,
        env={"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120"},
    )
    listed = set(re.findall(r"^[│\s]*([a-z]+)\s{2,}", done.stdout, re.MULTILINE))
    in_readme = set(re.findall(r"\| `planner ([a-z]+)", (ROOT / "README.md").read_text()))
    assert in_readme
    assert in_readme == listed & in_readme
    assert listed <= in_readme
