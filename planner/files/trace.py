"""Trace: recorded requests, in the formats in which they are published."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from planner.core.errors import FileProblem, InvalidFileError
from planner.core.rng import stream
from planner.core.workload import Request
from planner.files.conversations import Recorded, requests_of

_Row = Mapping[str, Any]


def _moment_s(text: Any) -> float:
    """Seconds of a date and time with up to seven decimals, as in the Azure traces."""
    whole, _, rest = str(text).partition(".")
    digits = rest.partition("+")[0]
    return datetime.fromisoformat(whole[:19] + "+00:00").timestamp() + float(f"0.{digits or 0}")


@dataclass(frozen=True, slots=True)
class _Format:
    arrival: str
    prompt: str
    output: str
    seconds: Callable[[Any], float] = float
    conversation: str = ""
    """Column that says which requests are turns of one conversation, if there is one."""
    hashes: str = ""
    """Key of the hashes of the prompt's blocks, if there are any."""


_FORMATS = (
    _Format("arrival_s", "prompt_tokens", "output_tokens", conversation="session"),
    _Format("t_s", "in_tokens", "out_tokens"),
    _Format("arrive_s", "in_tokens", "out_tokens"),
    _Format("TIMESTAMP", "ContextTokens", "GeneratedTokens", _moment_s),
    _Format("Timestamp", "Request tokens", "Response tokens", conversation="Session ID"),
    _Format(
        "timestamp",
        "input_length",
        "output_length",
        lambda value: float(value) / 1000,
        hashes="hash_ids",
    ),
)
"""Planner's own, short names, Azure LLM inference, BurstGPT, Mooncake (milliseconds)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival, the first one at 0."""

    requests: tuple[Request, ...]
    left_out: int
    """Rows without a prompt or an answer, such as calls that failed when they were recorded."""


def read_trace(path: Path, speed: float = 1.0, most: int | None = None) -> Trace:
    """The requests of a CSV or JSON-lines file, coming ``speed`` times as fast as recorded.

    ``most`` keeps the first requests only. Raises InvalidFileError.
    """
    found: list[Recorded] = []
    left_out = 0
    try:
        for line, row in _rows(path):
            try:
                recorded = _recorded(row)
            except ValueError as error:
                raise _invalid(path, str(error), line) from error
            if recorded.prompt_tokens < 1 or recorded.output_tokens < 1:
                left_out += 1
            else:
                found.append(recorded)
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise _invalid(path, f"cannot be read: {reason}") from error
    if not found:
        without = f", only {left_out} rows without prompt or answer" if left_out else ""
        raise _invalid(path, f"has no requests{without}")
    found.sort(key=lambda one: one.arrival_s)
    return Trace(tuple(requests_of(found[:most], speed)), left_out)


def thickened(trace: Trace, factor: float, seed: int) -> Trace:
    """``factor`` times as many requests in the same time, bursts and pauses kept.

    Below 1, each is kept with that probability. Above, copies come at random moments before the
    next request, the copies of a conversation's turns as another one. At least one request is left.
    """
    rng = stream(seed, "trace rate")
    found = []
    for one, later in zip(trace.requests, [*trace.requests[1:], None], strict=True):
        times = int(factor) + (rng.random() < factor % 1)
        gap_s = later.arrival_s - one.arrival_s if later is not None else 0.0
        copies = (one.arrival_s + gap_s * rng.random() for _ in range(times - 1))
        moments = [one.arrival_s, *copies] if times else []
        for copy, moment_s in enumerate(moments):
            session = None if one.session is None else one.session + copy * len(trace.requests)
            found.append(one._replace(arrival_s=moment_s, session=session))
    found.sort(key=lambda one: one.arrival_s)
    kept = found or [trace.requests[0]]
    return Trace(tuple(one._replace(id=index) for index, one in enumerate(kept)), trace.left_out)


def _rows(path: Path) -> Iterator[tuple[int, _Row]]:
    """Line numbers and rows; lines that start with # are comments."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [
            (number, line)
            for number, line in enumerate(file, 1)
            if line.strip() and not line.startswith("#")
        ]
    if lines and lines[0][1].startswith("{"):
        yield from ((number, _object(path, number, line)) for number, line in lines)
        return
    rows = csv.DictReader(line for _, line in lines)
    yield from zip((number for number, _ in lines[1:]), rows, strict=False)


def _object(path: Path, number: int, line: str) -> _Row:
    try:
        found = json.loads(line)
    except ValueError as error:
        reason = getattr(error, "msg", error)
        raise _invalid(path, f"cannot be read: {reason}", number) from error
    if not isinstance(found, dict):
        raise _invalid(path, "must be keys and values in braces", number)
    return found


def _recorded(row: _Row) -> Recorded:
    """A row as one of the formats has it; raises ValueError that names the column."""
    for known in _FORMATS:
        if {known.arrival, known.prompt, known.output} <= row.keys():
            return Recorded(
                _number(row, known.arrival, known.seconds),
                _tokens(row, known.prompt),
                _tokens(row, known.output),
                _said(row.get(known.conversation)),
                _hashes(row, known.hashes),
            )
    raise ValueError("columns are not those of a known format")


def _said(cell: Any) -> str:
    """A cell as text; empty where it is missing."""
    return "" if cell is None else str(cell).strip()


def _number(row: _Row, column: str, read: Callable[[Any], float] = float) -> float:
    """What a column says, finite."""
    said = row[column]
    if said is None or said == "":
        raise ValueError(f"{column}: is missing")
    try:
        value = read(said)
    except (ValueError, TypeError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{column}: cannot be read from {said!r}")
    return value


def _tokens(row: _Row, column: str) -> int:
    value = _number(row, column)
    if value < 0 or value != int(value):
        raise ValueError(f"{column}: must be a whole number of tokens, not {row[column]!r}")
    return int(value)


def _hashes(row: _Row, column: str) -> tuple[int, ...]:
    found = row.get(column) or ()
    if not isinstance(found, list | tuple) or not all(isinstance(one, int) for one in found):
        raise ValueError(f"{column}: must be a list of whole numbers, not {found!r}")
    return tuple(found)


def _invalid(path: Path, message: str, line: int | None = None) -> InvalidFileError:
    hint = "columns: arrival_s,prompt_tokens,output_tokens, or an Azure, BurstGPT, Mooncake trace"
    return InvalidFileError([FileProblem(str(path), message, line=line)], hint)
