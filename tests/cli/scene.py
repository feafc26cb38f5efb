"""A folder with the tiny scenario, and the commands that plan it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cli.world import Outcome, Terminal
from tests.files.world import SCENARIO, write_scenario

MUST = "must_have: {mean_ttft: 1 s}\n"


@dataclass(frozen=True)
class Scene:
    """Where files lie, and who runs commands on them."""

    folder: Path
    terminal: Terminal

    def scenario(self, more: str = "", name: str = "tiny.yaml") -> Path:
        """The tiny scenario with lines added."""
        return write_scenario(self.folder, SCENARIO + more, name)

    def planner(self, command: str, *arguments: object) -> Outcome:
        """Runs a command that knows the profiles of the folder."""
        return self.terminal(command, *arguments, "--profiles", self.folder / "profiles")

    def manifest(self, more: str = "", *arguments: object) -> Path:
        """A manifest of the tiny scenario."""
        path = self.folder / "manifest.yaml"
        said = self.planner("plan", self.scenario(more), "--out", path, *arguments)
        assert said.code == 0, said.stderr
        return path
