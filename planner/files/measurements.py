"""Tables of measured speeds, as people publish them -> rows that a fit can use.

Three layouts, told apart by their header: planner's own (``device,count,model,quant,prompt,
output,cached,batch`` and any of the four speeds), one metric per row (``device,n_devices,backend,
model,quant,metric,value``), and one serving run per row (``system,model,precision,backend,isl,osl,
tp,concurrency,ttft_ms,tpot_ms``). A row says nothing twice: what the cost model has no terms for is
left out, and said.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import get_args

from planner.core.cost.estimate import Load
from planner.core.cost.measured import MeasuredSpeed, Speed
from planner.core.device import Device
from planner.core.engine import MeasuredAs
from planner.core.errors import FileProblem, InvalidFileError
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.files.catalogue import Catalogue, Kind
from planner.files.names import resolve, scheme_of, unknown

SPEEDS: tuple[Speed, ...] = get_args(Speed)
_METRICS: Mapping[str, Speed] = {
    "prefill_tok_s": "prefill_tok_s",
    "decode_tok_s": "decode_tok_s",
    "decode_tok_s_aggregate": "decode_tok_s",
}
_DOUBTS = ("anomal", "uncertain", "offload")
_OWN = ("device", "model", "quant", "prompt", "output")
_METRIC = ("device", "n_devices", "backend", "model", "quant", "metric", "value")
_SERVING = ("system", "model", "precision", "backend", "isl", "osl", "tp", "ttft_ms", "tpot_ms")
_USUAL_OUTPUT_TOKENS = 128
_MOST_TENSOR_PARALLEL = 8
_SAME_WITHIN = 1.3
"""Runs of one setting repeat within a few per cent."""
_FALL = 1.15
"""Beyond what runs differ by."""
_MOST_OF_THE_PEAK = 0.6
"""No engine keeps a device at more of its peak; a table that says so counted requests wrongly."""

_Row = Mapping[str, str]


@dataclass(slots=True)
class Measurements:
    """The rows that can be used, and how many cannot, by reason."""

    rows: list[MeasuredSpeed] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    seen: set[tuple[object, ...]] = field(default_factory=set)
    """Serving runs so far, whatever the model is called: tables list finetunes again."""
    campaigns: dict[tuple[str, ...], list[MeasuredSpeed]] = field(default_factory=dict)
    """TTFT of the runs of one release of an engine, device, model and scheme."""


def read_measurements(
    path: Path, known: Catalogue, wanted: MeasuredAs, skip_unknown: bool = False
) -> Measurements:
    """Every measurement of a CSV file that is of the ``wanted`` engine.

    ``skip_unknown`` leaves out rows whose names mean no card; otherwise they make the file invalid.
    Raises InvalidFileError with every row that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidFileError([FileProblem(str(path), f"cannot be read: {reason}")]) from None
    found, problems = Measurements(), list[FileProblem]()
    for number, row in _rows(path, lines):
        try:
            reason = _add(
                found,
                _Reader(known, wanted, skip_unknown),
                row,
                FileProblem(str(path), "", line=number),
            )
        except InvalidFileError as error:
            problems += error.problems
        else:
            if reason:
                found.left_out[reason] += 1
    if problems:
        raise InvalidFileError(problems, "mend the names, or --skip-unknown leaves such rows out")
    _leave_out_contradictions(found)
    _leave_out_waits(found)
    return found


def _leave_out_contradictions(found: Measurements) -> None:
    """Serving runs of one setting that differ much: one drafted, or ran another build.

    Tables do not say which, so both go. Models with as many active parameters count as the same.
    """
    groups: dict[tuple[object, ...], list[MeasuredSpeed]] = {}
    for row in found.rows:
        setting = (row.device.id, row.count, row.model.active_params, row.quant.id, row.load)
        groups.setdefault(setting, []).append(row)
    lost: set[int] = set()
    for rows in groups.values():
        times = [row.value for row in rows if row.speed == "tpot_ms"]
        if times and max(times) > _SAME_WITHIN * min(times):
            lost |= {id(row) for row in rows}
            found.left_out["contradicted by another run"] += len(times)
    found.rows = [row for row in found.rows if id(row) not in lost]


def _leave_out_waits(found: Measurements) -> None:
    """TTFT of campaigns where it mostly falls as users double: no engine serves more users sooner.

    There one request more than there are seats waits for the next one to end, which with few
    users takes longest. The time per token says nothing of that wait.
    """
    lost: set[int] = set()
    for rows in found.campaigns.values():
        series: dict[tuple[int, int, int], list[MeasuredSpeed]] = {}
        for row in rows:
            key = (row.count, row.load.prompt_tokens, row.load.output_tokens)
            series.setdefault(key, []).append(row)
        falling = sum(map(_falls, series.values()))
        if 2 * falling > len(series):
            lost |= {id(row) for row in rows}
    kept = [row for row in found.rows if id(row) not in lost]
    if len(kept) < len(found.rows):
        found.left_out["TTFT that falls with more users"] += len(found.rows) - len(kept)
    found.rows = kept


def _falls(rows: list[MeasuredSpeed]) -> bool:
    ordered = sorted(rows, key=lambda row: row.load.batch)
    return any(
        more.load.batch >= 2 * few.load.batch and _FALL * more.value < few.value
        for few, more in pairwise(ordered)
    )


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[int, _Row]]:
    """Line numbers and cells; lines that start with # are comments."""
    kept = [
        (number, line)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    reader = csv.DictReader(line for _, line in kept)
    header = set(reader.fieldnames or ())
    if not any(set(layout) <= header for layout in (_OWN, _METRIC, _SERVING)):
        wanted = "; ".join(",".join(layout) for layout in (_OWN, _METRIC, _SERVING))
        raise InvalidFileError(
            [FileProblem(str(path), "the header is that of no known layout", line=1)],
            f"the columns of one of these must be there: {wanted}",
        )
    for (number, _), row in zip(kept[1:], reader, strict=False):
        yield number, {key: (value or "").strip() for key, value in row.items() if key}


@dataclass(frozen=True, slots=True)
class _Reader:
    """What rows are read with."""

    known: Catalogue
    wanted: MeasuredAs
    skip_unknown: bool


def _add(found: Measurements, reader: _Reader, row: _Row, place: FileProblem) -> str:
    """Adds what a row says; the reason where it is left out."""
    wanted = reader.wanted
    if "backend" in row:
        backend, others = row["backend"].casefold(), wanted.but_not
        others = (others,) if isinstance(others, str) else others
        if wanted.backend.casefold() not in backend or any(
            other.casefold() in backend for other in others if other
        ):
            return "of another engine"
    date = row.get("date", wanted.until or wanted.since)
    if (wanted.since and date < wanted.since) or (wanted.until and (date or "9") > wanted.until):
        return "of another time"
    if "system" in row:
        return _add_serving(found, reader, row, place)
    if any(doubt in row.get("quality", "") for doubt in _DOUBTS):
        return "marked as doubtful"
    names = _cards(reader, row, row["quant"], place)
    if names is None:
        return "names that mean no card"
    device, model, quant = names
    if "metric" not in row:
        load = Load(
            _whole(row, "prompt", place),
            _whole(row, "output", place),
            _whole(row, "batch", place, 1),
            _whole(row, "cached", place, 0),
        )
        count = _whole(row, "count", place, 1)
        values: dict[Speed, str] = {speed: row[speed] for speed in SPEEDS if row.get(speed)}
    else:
        metric = _METRICS.get(row["metric"])
        if metric is None or (metric == "prefill_tok_s" and not row["n_prompt"]):
            return "metrics that planner does not predict"
        load = _bench_load(row, metric, place)
        count, values = _whole(row, "n_devices", place, 1), {metric: row["value"]}
    device = wanted.as_run(device, count)
    for name, text in values.items():
        value = _number(name, text, place)
        found.rows.append(MeasuredSpeed(device, count, model, quant, load, name, value, _at(place)))
    return "" if values else "no speed"


def _bench_load(row: _Row, metric: Speed, place: FileProblem) -> Load:
    """What llama-bench was asked: ``context`` is a depth where it is beyond the test's own."""
    context = _whole(row, "context", place, 0)
    if metric == "prefill_tok_s":
        prompt = _whole(row, "n_prompt", place)
        return Load(prompt, 1, 1, context if context > prompt / 2 else 0)
    output = _whole(row, "n_gen", place, _USUAL_OUTPUT_TOKENS) or _USUAL_OUTPUT_TOKENS
    cached = context if context > output / 2 else 0
    return Load(1, output, _whole(row, "batch", place, 1), cached)


def _of_release(wanted: MeasuredAs, version: str) -> bool:
    if wanted.versions and not version.startswith(wanted.versions):
        return False
    return not (wanted.but_not_versions and version.startswith(wanted.but_not_versions))


def _add_serving(found: Measurements, reader: _Reader, row: _Row, place: FileProblem) -> str:
    version = row.get("backend_version", "")
    if not version or "dev" in version:
        return "version of the engine unknown"
    if not _of_release(reader.wanted, version):
        return "of another engine"
    parallel = {name: _whole(row, name, place, 1) for name in ("pp", "attn_dp", "moe_ep")}
    if max(parallel.values()) > 1 or _whole(row, "tp", place) > _MOST_TENSOR_PARALLEL:
        return "parallelism that planner does not model"
    users = _whole(row, "concurrency", place, _whole(row, "batch", place, 1))
    if users != _whole(row, "batch", place, users):
        return "parallelism that planner does not model"
    cards = _cards(reader, row, row["precision"] or "bf16", place)
    if cards is None:
        return "names that mean no card"
    device, model, quant = cards
    load = Load(_whole(row, "isl", place), _whole(row, "osl", place), users)
    count = _whole(row, "tp", place)
    first, later = (_number(name, row[name], place) for name in ("ttft_ms", "tpot_ms"))
    if first > load.output_tokens * later / 2:
        return "requests that waited for a seat"
    request_s = (first + load.output_tokens * later) / 1e3
    products = model.active_params * (load.prompt_tokens + load.output_tokens) * users
    peak = device.peak_flop_per_s(quant.compute_dtype) * count
    if 2 * products / request_s > _MOST_OF_THE_PEAK * peak:
        return "more FLOP/s than devices sustain"
    key = (device.id, count, quant.id, load, first, later)
    if key in found.seen:
        return "said before"
    found.seen.add(key)
    speeds: tuple[tuple[Speed, float], ...] = (("ttft_ms", first), ("tpot_ms", later))
    for name, value in speeds:
        found.rows.append(MeasuredSpeed(device, count, model, quant, load, name, value, _at(place)))
    campaign = (version, device.id, model.id, quant.id)
    found.campaigns.setdefault(campaign, []).append(found.rows[-2])
    return ""


def _cards(
    reader: _Reader, row: _Row, scheme: str, place: FileProblem
) -> tuple[Device, ModelSpec, QuantScheme] | None:
    """The cards that a row's names mean; None where one means none and that is allowed."""
    known = reader.known
    model_id = resolve(known, "models", row["model"])
    names: tuple[tuple[Kind, str, str | None], ...] = (
        ("devices", name := row.get("device") or row["system"], resolve(known, "devices", name)),
        ("models", row["model"], model_id),
        ("quants", scheme, scheme_of(known, scheme, model_id or "", row.get("backend", ""))),
    )
    lost = [(kind, name) for kind, name, one in names if one is None]
    if lost and reader.skip_unknown:
        return None
    if lost:
        raise InvalidFileError([unknown(known, kind, name, place) for kind, name in lost])
    device, model, quant = (one or "" for _, _, one in names)
    return (
        known.get_as("devices", device, Device)[0],
        known.get_as("models", model, ModelSpec)[0],
        known.get_as("quants", quant, QuantScheme)[0],
    )


def _whole(row: _Row, name: str, place: FileProblem, absent: int | None = None) -> int:
    """A cell that counts something; tables write whole numbers as 512.0, too."""
    text = row.get(name, "")
    if not text and absent is not None:
        return absent
    value = _number(name, text, place, least=0)
    if value != int(value):
        raise _bad(place, name, f"{text} is no whole number")
    return int(value)


def _number(name: str, text: str, place: FileProblem, least: float | None = None) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _bad(place, name, f"{text!r} is no number") from None
    if not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise _bad(place, name, f"{text} must be {'above 0' if least is None else 'at least 0'}")
    return value


def _bad(place: FileProblem, column: str, message: str) -> InvalidFileError:
    return InvalidFileError([FileProblem(place.file, message, column, place.line)])


def _at(place: FileProblem) -> str:
    return f"{place.file}:{place.line}"
