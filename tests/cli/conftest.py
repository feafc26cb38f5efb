from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.scene import Scene
from tests.cli.world import Terminal
from tests.files.world import write_cards


@pytest.fixture
def planner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Terminal:
    """The command, in an environment that nothing else has set up."""
    for name in ("PLANNER_PROFILES", "PLANNER_FORMAT", "PLANNER_SEED", "PLANNER_DEBUG", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Terminal(capsys)


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """A folder with the made-up cards."""
    return write_cards(tmp_path / "profiles")


@pytest.fixture
def scene(planner: Terminal, tmp_path: Path) -> Scene:
    """A folder for scenarios and manifests, with the command that reads them."""
    return Scene(tmp_path, planner)
