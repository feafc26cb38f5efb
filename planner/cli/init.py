"""``planner init``: a commented scenario to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")],
    template: Annotated[
        str, typer.Option("--template", metavar="NAME", help="Bundled scenario to start from.")
    ] = "two-homes",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    format: FormatOption = Format.text,
) -> None:
    """Write a commented scenario to start from.

    It is called as the folder is. The scenarios that it compares itself with are written too.
    Nothing that is there already is replaced without --force.

    Example: `planner init my-scenario --template two-homes`
    """
    from planner.core.errors import UsageError
    from planner.files.atomic import write_text
    from planner.files.templates import template as texts

    chosen = texts(template, directory)
    paths = {directory / name: text for name, text in chosen.items()}
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise UsageError(
            f"{', '.join(there)} would be replaced",
            "pass --force to replace, or name another folder",
        )
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is no folder")
    for path, text in paths.items():
        write_text(path, text)
    first = next(iter(paths))
    if format is Format.json:
        console.emit_json({"template": template, "files": [str(path) for path in paths]})
    else:
        console.emit_raw("".join(f"{path}\n" for path in paths))
    console.note(f"next: planner plan {shlex.quote(str(first))}")
