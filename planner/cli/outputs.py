"""Files that commands write beside what they print: tables, a page, a trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.advice.advise import Advice
    from planner.cli.contest import Contest, Contestant
    from planner.core.workload import Request
    from planner.report.simulate import Target
    from planner.report.trace import Course
    from planner.sim.replicate import Replications


ChromeTraceOption = Annotated[
    Path | None,
    typer.Option(
        "--chrome-trace",
        metavar="FILE",
        help="Trace to write, of the first run of what is named first, for Perfetto or "
        "chrome://tracing.",
    ),
]


def check_files(html: Path | None, trace: Path | None, *tables: Path | None) -> None:
    """Raises what writing the files would raise, before long work begins.

    And UsageError for two of one name.
    """
    from planner.cli.page import require_plotly
    from planner.core.errors import UsageError
    from planner.files.atomic import check_writable
    from planner.files.tabular import check_table

    if html is not None:
        require_plotly()
    for table in tables:
        if table is not None:
            check_table(table)
    taken: set[Path] = set()
    for file in (html, trace, *tables):
        if file is None:
            continue
        check_writable(file)
        if file.resolve() in taken:
            raise UsageError(f"{file} is named for two outputs", "give each a file of its own")
        taken.add(file.resolve())


def write_tables(
    records: Path | None,
    visits: Path | None,
    contestants: Sequence[Contestant],
    runs: Sequence[Replications],
) -> None:
    """A row per request, and per job at every place, where they were asked for."""
    from planner.files.tabular import write_table
    from planner.report.records import RECORDS, VISITS, record_rows, visit_rows

    named = [(one.name, run.results) for one, run in zip(contestants, runs, strict=True)]
    if records is not None:
        write_table(records, RECORDS, record_rows(named))
        console.note(f"records written to {records}")
    if visits is not None:
        write_table(visits, VISITS, visit_rows(named))
        console.note(f"visits written to {visits}")


def write_first_page(
    path: Path,
    contest: Contest,
    run: Replications,
    found: Sequence[Target],
    advice: Advice | None,
    varied: bool,
) -> None:
    """The page of the first target, with the largest load it takes where that was searched."""
    from planner.cli.page import simulated_facts, write_page
    from planner.report.capacity import capacity_said

    first, able = contest.contestants[0], found[0].capacity
    facts = simulated_facts(first, contest, run, found, advice, varied)
    write_page(path, facts if able is None else replace(facts, verdict=[capacity_said(able)]))


def write_first_trace(
    path: Path, first: Contestant, seed: int, requests: Sequence[Request] | None
) -> None:
    """Simulates a target once more, every hop of every step noted: the same run."""
    from planner.report.trace import Course, simulated_spans
    from planner.sim.simulate import simulate

    problem, plan = first.problem, first.plan
    result = simulate(problem, plan, seed, requests, visits=True, own_times=requests is not None)
    spans = list(simulated_spans(result.visits))
    write_trace(path, Course("simulated", problem, plan, spans, result.records, result.recoveries))


def write_trace(path: Path, course: Course) -> None:
    """Writes the trace whole or not at all."""
    from planner.files.atomic import write_text
    from planner.report.trace import trace_document

    document = trace_document(course)
    write_text(path, json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n")
    events = len(document["traceEvents"])
    console.note(f"trace of {events:,} events written to {path}; open it at ui.perfetto.dev")
