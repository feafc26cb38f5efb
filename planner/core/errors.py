"""Errors a user can cause, each with the exit code and the mend it carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INVALID_FILE = 3
    INFEASIBLE = 4
    STALE = 5
    CHECK_FAILED = 6
    RUNTIME = 7
    INTERRUPTED = 130


class PlannerError(Exception):
    """A failure with a message for people, an exit code and, where there is one, a hint."""

    exit_code: Exit = Exit.BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PlannerError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_code = Exit.USAGE


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One thing that is wrong at one place of a file; lines and columns count from 1."""

    file: str
    message: str
    path: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        key = f" {self.path}:" if self.path else ""
        return f"{place}:{key} {self.message}"


class InvalidFileError(PlannerError):
    """A file cannot be read or means nothing; lists every problem found, not only the first."""

    exit_code = Exit.INVALID_FILE

    def __init__(self, problems: Sequence[FileProblem], hint: str = "") -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint)
        self.problems = tuple(problems)


class InfeasibleError(PlannerError):
    """No plan meets the must-haves; says what binds and which plan came nearest."""

    exit_code = Exit.INFEASIBLE


class StaleManifestError(PlannerError):
    """A manifest belongs to another problem or to another major schema version."""

    exit_code = Exit.STALE


class CheckFailedError(PlannerError):
    """A check the user asked for did not hold: a missed SLO or a prediction too far off."""

    exit_code = Exit.CHECK_FAILED


class RunError(PlannerError):
    """The runtime could not go on: a lost node, a busy port, a missing torch."""

    exit_code = Exit.RUNTIME
