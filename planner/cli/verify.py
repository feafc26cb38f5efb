"""``planner verify``: what a stranger can check about the work of nodes nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def verify() -> None:
    """Check what nodes signed about the work they did."""


@app.command("log")
def log(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with the log.jsonl of a run.")
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest the log has to be of; without it, any manifest will do."),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Check every signature, root and audit of a published log.

    Needs neither a GPU nor the weights and trusts nobody: it recomputes from the log which
    audits were due and names every record that is missing, altered or against the rules.
    Exit code 6 if there is one.

    Example: `planner verify log build/demo/receipts --manifest build/demo/manifest.yaml`
    """
    from planner.cli.extra import cryptography_needed
    from planner.core.errors import CheckFailedError, FileProblem, InvalidFileError
    from planner.report import verify as report

    with cryptography_needed("verify log"):
        from planner.receipts.check import check_log
        from planner.receipts.log import NAME, read_lines
    digest = _digest(manifest) if manifest else ""
    file = folder / NAME
    try:
        checked = check_log(read_lines(file), digest)
    except OSError as error:
        problem = FileProblem(str(file), f"cannot be read: {error.strerror}")
        raise InvalidFileError([problem], "give the folder that `planner run` wrote") from None
    if format is Format.json:
        console.emit_json(report.document(checked))
    else:
        console.emit(*report.text(checked))
    if checked.findings:
        count = len(checked.findings)
        things = "1 thing is" if count == 1 else f"{count} things are"
        raise CheckFailedError(f"{things} wrong with {file}")


def _digest(manifest: Path) -> str:
    """Digest by which a log names a manifest: SHA-256 of the file."""
    from hashlib import sha256

    from planner.core.errors import FileProblem, InvalidFileError

    try:
        return sha256(manifest.read_bytes()).hexdigest()
    except OSError as error:
        problem = FileProblem(str(manifest), f"cannot be read: {error.strerror}")
        raise InvalidFileError([problem]) from None
