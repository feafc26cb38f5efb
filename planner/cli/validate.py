"""``planner validate``: silent where files are right, and a list of what is wrong elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption

if TYPE_CHECKING:
    from planner.core.errors import PlannerError


def validate(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Scenarios, manifests or profiles."),
    ],
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Check scenarios, manifests and profiles.

    Says nothing where all are right. Every problem of every file is reported with its line.
    Exit code 3 if there is one, 5 if the one file given is a manifest of another version.

    Example: `planner validate scenario.yaml`
    """
    from planner.core.errors import PlannerError

    failed: list[tuple[Path, PlannerError]] = []
    for file in files:
        try:
            for warning in _check(file, profiles or []):
                console.warn(f"{file}: {warning}")
        except PlannerError as error:
            failed.append((file, error))
    if format is Format.json:
        errors = dict(failed)
        listed = [
            {
                "file": str(file),
                "valid": file not in errors,
                "problems": _listed(errors[file]) if file in errors else [],
            }
            for file in files
        ]
        console.emit_json({"valid": not failed, "files": listed})
    if failed:
        raise _together(failed)


def _check(file: Path, profiles: Sequence[Path]) -> tuple[str, ...]:
    """Reads a file as what it is, a card of the catalogue included; returns its warnings."""
    from planner.files.catalogue import CARDS, Catalogue
    from planner.files.target import load_target

    kind = next((kind for kind in CARDS if kind == file.absolute().parent.name), None)
    if kind is not None or file.name == "config.json" or file.is_dir():
        Catalogue(Path(), tuple(profiles)).get(kind or "models", str(file.absolute()))
        return ()
    return load_target(file, profiles).warnings


def _listed(error: PlannerError) -> list[dict[str, object]]:
    """The problems of a file, each with its place where it is known."""
    from planner.core.errors import InvalidFileError

    if not isinstance(error, InvalidFileError):
        return [{"message": error.message, "path": "", "line": None, "column": None}]
    names = ("message", "path", "line", "column")
    return [{name: getattr(problem, name) for name in names} for problem in error.problems]


def _together(failed: Sequence[tuple[Path, PlannerError]]) -> PlannerError:
    """One error that lists every problem of every file."""
    from planner.core.errors import FileProblem, InvalidFileError

    if len(failed) == 1:
        return failed[0][1]
    problems: list[FileProblem] = []
    for file, error in failed:
        if isinstance(error, InvalidFileError):
            problems += error.problems
        else:
            problems.append(FileProblem(str(file), error.message))
    hints = dict.fromkeys(error.hint for _, error in failed if error.hint)
    return InvalidFileError(problems, "\nhint: ".join(hints))
