"""``planner export``: hands a plan to an engine that people already run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption


class Target(StrEnum):
    """Engines that an export is written for."""

    vllm = "vllm"
    llama_cpp = "llama.cpp"


def export(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What planner plan wrote.")],
    to: Annotated[Target, typer.Option("--to", help="Engine to write for.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")],
    format: FormatOption = Format.text,
) -> None:
    """Write launch scripts of another engine; what it cannot express is a warning.

    Example: `planner export manifest.yaml --to vllm --out vllm`
    """
    from planner.files.atomic import write_text
    from planner.files.export import llama_cpp, vllm
    from planner.files.manifest import read_manifest

    planned = read_manifest(manifest)
    made = vllm(planned) if to is Target.vllm else llama_cpp(planned)
    for name, text in made.files.items():
        write_text(out / name, text)
    written = [str(out / name) for name in made.files]
    if format is Format.json:
        console.emit_json({"engine": to.value, "files": written, "warnings": list(made.warnings)})
    else:
        console.emit(*written)
    for warning in made.warnings:
        console.warn(warning)
