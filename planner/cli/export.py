"""``planner export``: hands a plan to what people already run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ManifestArgument


class Target(StrEnum):
    """What an export is written for."""

    vllm = "vllm"
    llama_cpp = "llama.cpp"
    petals = "petals"
    parallax = "parallax"
    skypilot = "skypilot"
    kubernetes = "kubernetes"


def export(
    manifest: ManifestArgument,
    to: Annotated[Target, typer.Option("--to", help="What to write for.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    format: FormatOption = Format.text,
) -> None:
    """Write what another engine or orchestrator takes.

    What that cannot express is a warning. README.md among the files has the commands in order.

    Example: `planner export manifest.yaml --to vllm --out vllm`
    """
    from planner.files.atomic import write_text
    from planner.files.export import ENGINES
    from planner.files.manifest import read_manifest

    made = ENGINES[to.value](read_manifest(manifest))
    for name, text in made.files.items():
        write_text(out / name, text)
    written = [str(out / name) for name in made.files]
    if format is Format.json:
        console.emit_json({"engine": to.value, "files": written, "warnings": made.warnings})
    else:
        console.emit_raw("".join(f"{name}\n" for name in written))
    for warning in made.warnings:
        console.warn(warning)
