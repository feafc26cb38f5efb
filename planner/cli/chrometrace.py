"""``--chrome-trace``: what simulate and run write for Perfetto."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.report.trace import Course

ChromeTraceOption = Annotated[
    Path | None,
    typer.Option(
        "--chrome-trace",
        metavar="FILE",
        help="Trace to write, of the first run of what is named first, for Perfetto or "
        "chrome://tracing.",
    ),
]


def write_trace(path: Path, course: Course) -> None:
    """Writes the trace whole or not at all."""
    from planner.files.atomic import write_text
    from planner.report.trace import trace_document

    document = trace_document(course)
    write_text(path, json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n")
    events = len(document["traceEvents"])
    console.note(f"trace of {events:,} events written to {path}; open it at ui.perfetto.dev")
