"""The planner command, and what happens when a subcommand fails."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Sequence
from typing import Annotated

import typer

from planner.cli import console
from planner.cli.commands import Commands
from planner.core.errors import PlannerError

app = typer.Typer(
    name="planner",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.version()


@app.callback()
def planner(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Plan, simulate and run an LLM that is split over machines in different places.

    Start with `planner init DIR`, then `planner plan`, `planner simulate` and `planner run`.
    Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 a bug in planner,
    2 wrong command line, 3 invalid file, 4 no feasible plan, 5 stale manifest, 6 a check
    failed, 7 runtime failure, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line given, or that of the process, and exits with its code."""
    console.prepare()
    # looking for cycles that hardly any command makes costs as much as a tenth of a short one
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # numpy would start threads that small arrays never use, at a tenth of what a command costs
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # pydantic would look through every installed package for plugins
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="planner")
    except PlannerError as error:
        console.fail(error)
    except KeyboardInterrupt:
        console.interrupted()
    except BrokenPipeError:
        console.nobody_reads()
    except Exception as error:
        console.bug(error)
