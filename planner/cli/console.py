"""The console: the only place that prints or exits, and the options that commands share."""

from __future__ import annotations

import datetime
import json
import math
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol

import typer

import planner
from planner.core.errors import Exit, PlannerError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA_VERSION = "1.0"
_PIPE_WIDTH = 100


class Format(StrEnum):
    """What a command writes to stdout: text for people, or one JSON document."""

    text = "text"
    json = "json"


FormatOption = Annotated[
    Format,
    typer.Option(
        "--format", envvar="PLANNER_FORMAT", help="Text for people, or one JSON document."
    ),
]
ProfilesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--profiles",
        metavar="DIR",
        help="Folder with profiles that win over those of PLANNER_PROFILES, of the user and the "
        "bundled ones; may be repeated.",
    ),
]
ManifestArgument = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="What planner plan wrote.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Value of the scenario to replace, such as workload.arrivals.rate='2 req/s'; may be "
        "repeated.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option("--seed", envvar="PLANNER_SEED", min=0, help="Seed of all random numbers."),
]


def prepare() -> None:
    """Makes sure that a terminal without some character shows another instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class Report(Protocol):
    """What a command found out."""

    def document(self) -> Mapping[str, Any]:
        """The JSON document."""

    def text(self) -> Iterable[RenderableType]:
        """Texts and tables for people."""


def tell(report: Report, format: Format) -> None:
    """Writes a report to stdout."""
    if format is Format.json:
        emit_json(report.document())
    else:
        emit(*report.text())


def emit(*renderables: RenderableType) -> None:
    """Writes text and tables to stdout; markup in texts is not interpreted."""
    console = _console(stderr=False)
    console.on_broken_pipe = nobody_reads  # type: ignore[method-assign]  # rich exits with 1
    try:
        for renderable in renderables:
            if isinstance(renderable, str):
                renderable = _hanging(renderable, console.width)
            console.print(renderable)
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads()
    except OSError as error:
        _unwritable(error)


def _hanging(text: str, width: int) -> str:
    """An indented line wrapped so that all its lines are indented, the further ones deeper."""
    indent = len(text) - len(text.lstrip(" "))
    if not indent or len(text) <= width:
        return text
    further = " " * (indent + 2)
    return textwrap.fill(
        text, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )


def emit_json(document: Mapping[str, Any]) -> None:
    """Writes one JSON document to stdout; what is not a finite number becomes null."""
    values = _plain({"schema_version": SCHEMA_VERSION, **document})
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    emit_raw(text + "\n")


def emit_raw(text: str) -> None:
    """Writes text to stdout as it is: no wrapping, no colour."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        nobody_reads()
    except OSError as error:
        _unwritable(error)


def note(text: str) -> None:
    """Tells people something beside the data."""
    _tell(text)


def warn(text: str) -> None:
    """Tells people what they should know before they rely on the data."""
    _tell(text, "warning: ", "yellow")


def fail(error: PlannerError) -> NoReturn:
    """Says what went wrong and how to mend it, and exits with the error's code."""
    _tell(error.message, "error: ", "red")
    if error.hint:
        _tell(error.hint, "hint: ", "cyan")
    raise SystemExit(int(error.exit_code))


def bug(error: Exception) -> NoReturn:
    """Says that planner itself is wrong, and exits; the traceback only with PLANNER_DEBUG=1."""
    if os.environ.get("PLANNER_DEBUG"):
        sys.stderr.write("".join(traceback.format_exception(error)))
    _tell(f"this is a bug in planner: {type(error).__name__}: {error}", "error: ", "red")
    _tell("set PLANNER_DEBUG=1 to see where it happened, and report it", "hint: ", "cyan")
    raise SystemExit(int(Exit.BUG))


def interrupted() -> NoReturn:
    """Exits as a program does that the user stopped."""
    _tell("interrupted")
    raise SystemExit(int(Exit.INTERRUPTED))


def nobody_reads() -> NoReturn:
    """Exits quietly: whoever read stdout, such as ``head``, has seen enough."""
    _drop()
    raise SystemExit(int(Exit.DONE))


def _unwritable(error: OSError) -> NoReturn:
    """Refuses where stdout is a file that takes no more."""
    from planner.core.errors import RunError

    _drop()
    raise RunError(f"stdout cannot be written: {error.strerror}") from None


def _drop() -> None:
    """Has what is still to be written go nowhere, so that nothing fails when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def version() -> NoReturn:
    """Writes the version and exits."""
    emit_raw(f"planner {planner.__version__}\n")
    raise SystemExit(int(Exit.DONE))


@contextmanager
def progress(
    description: str, total: float | None = None, unit: str = ""
) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while something long goes on, drawn only for people.

    With a ``total``, how fast it goes (in ``unit`` a second, if given) and how long it will take.
    Yields a function that takes how much more of ``total`` is done.
    """
    if not sys.stderr.isatty():
        yield _nothing
        return
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    ]
    if total is not None:
        columns += [TextColumn("{task.fields[rate]}"), TextColumn("left"), TimeRemainingColumn()]
    began_s, done = time.monotonic(), 0.0
    with Progress(*columns, console=_console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            bar.update(task, advance=amount, rate=rate(done, time.monotonic() - began_s, unit))

        yield advance


def rate(done: float, seconds: float, unit: str) -> str:
    """How fast something goes, in the prefix that suits it; empty without a unit."""
    if not unit or seconds <= 0:
        return ""
    speed = done / seconds
    power, prefix = next(
        (
            (p, name)
            for p, name in ((1e9, "G"), (1e6, "M"), (1e3, "k"))
            if speed >= p and unit == "B"
        ),
        (1.0, ""),
    )
    return f"{speed / power:.3g} {prefix}{unit}/s"


def _nothing(_amount: float) -> None:
    """Takes the place of a bar that nobody would see."""


def _tell(text: str, label: str = "", colour: str = "") -> None:
    """Writes to stderr; a label in colour if stderr is a terminal that takes it."""
    if colour and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        label = typer.style(label, fg=colour, bold=True)
    sys.stderr.write(f"{label}{text}\n")
    sys.stderr.flush()


def _console(*, stderr: bool) -> Console:
    """As wide as the terminal, or as a page where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    given = os.environ.get("COLUMNS", "")
    width = int(given) if given.isdigit() and int(given) > 0 else _PIPE_WIDTH
    return Console(
        file=stream,
        width=None if stream.isatty() else width,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _plain(value: Any) -> Any:
    """``value`` in the types JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime.date, Path)):
        return str(value)
    return value


def check_folder(option: str, folder: Path | None) -> None:
    """Raises UsageError where something else than a folder has the name of one to write to."""
    from planner.core.errors import UsageError

    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"{option} {folder} is no folder")


def quantity(option: str, text: str, dimension: str) -> float:
    """The value of an option as people write it, with its unit; raises UsageError."""
    from planner.core.errors import UsageError
    from planner.core.units import parse

    try:
        value = parse(text, dimension)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None
    if not 0 <= value < math.inf:
        raise UsageError(f"{option} {text}: must not be {'negative' if value < 0 else 'infinite'}")
    return value
