from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from planner.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What one command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.stdout)
        return values


@dataclass(frozen=True)
class Terminal:
    """Runs command lines in this process; stdout and stderr are no terminals."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object) -> Outcome:
        self.capture.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = self.capture.readouterr()
        return Outcome(int(exit_info.value.code or 0), out, err)
