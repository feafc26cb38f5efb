"""``planner verify``: what a stranger can check about the work of nodes nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ManifestArgument

if TYPE_CHECKING:
    from planner.files.manifest import Manifest
    from planner.run.separation import Separation

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
    from planner.cli.extra import needs
    from planner.core.errors import CheckFailedError, FileProblem, InvalidFileError
    from planner.files.manifest import file_digest
    from planner.report import verify as report

    with needs("verify", "verify log"):
        from planner.receipts.check import check_log
        from planner.receipts.log import NAME, read_lines
    digest = file_digest(manifest) if manifest else ""
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


@app.command("calibrate")
def calibrate(
    manifest: ManifestArgument,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Hugging Face model directory.  [default: the manifest's]",
        ),
    ] = None,
    sessions: Annotated[
        int, typer.Option("--sessions", min=4, help="Honest sessions for each stage.")
    ] = 32,
    prompt: Annotated[int, typer.Option("--prompt", min=1, help="Prompt tokens.")] = 32,
    output: Annotated[int, typer.Option("--output", min=20, help="Output tokens.")] = 64,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Thresholds file to write."),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Measure where honest noise ends and other weights begin.

    Runs the manifest's stages honestly, with several kernels and number formats, and with cheaper
    weights, and sets for every stage the distances from which an audit accepts and rejects. Says
    "not separable" where honest noise hides a way to cheat.

    Example: `planner verify calibrate build/demo/manifest.yaml --out thresholds.yaml`
    """
    from planner.cli.extra import needs
    from planner.files.manifest import read_manifest
    from planner.report import separation as report

    read = read_manifest(manifest)
    with needs("run", "planner verify calibrate"):
        from planner.cli.checkpoint import choose
        from planner.run.checkpoint import open_checkpoint
        from planner.run.separation import separate_plan
    opened = open_checkpoint(choose(read, manifest, checkpoint))
    pipelines = len(read.plan.pipelines)
    with console.progress("comparing honest and cheaper stages", pipelines) as advance:
        found = separate_plan(
            opened,
            read.plan,
            sessions=sessions,
            prompt_tokens=prompt,
            output_tokens=output,
            seed=read.seed,
            done=advance,
        )
    if out is not None:
        _write(out, read, found, sessions)
    together = [one for pipeline in found for one in pipeline]
    if format is Format.json:
        console.emit_json(report.document(together))
    else:
        console.emit(*report.text(together))


def _write(
    path: Path, manifest: Manifest, found: Sequence[Sequence[Separation]], sessions: int
) -> None:
    """Writes the thresholds of all stages that can be told from cheaper ones."""
    import datetime

    from planner.files.thresholds import Thresholds, plan_thresholds, write_thresholds

    thresholds = Thresholds(
        model=manifest.problem.model.id,
        source=f"planner verify calibrate --sessions {sessions}",
        as_of=datetime.date.today(),
        sessions=sessions,
        stages=plan_thresholds(manifest.plan, found),
    )
    write_thresholds(path, thresholds)
    console.note(f"wrote {path}")
