"""What ``planner calibrate`` says: how wrong predictions are, on devices left out above all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.metrics import percentile
from planner.core.trust import ErrorBand, New
from planner.fit.bands import Judged, band
from planner.fit.engines import CalibratedEngines
from planner.fit.kernels import KernelFit
from planner.report.tables import Lines

_FAR = 2.5
"""How often the median error a row is off by to count as far off."""
_FEW, _MANY = 5, 0.25
"""Rows of an engine and a model that say something of both, and the share far off that is many."""

_LEFT_OUT: tuple[New, ...] = ("device", "model", "class")

NAMES = {
    "prefill_tok_s": "prefill tokens/s",
    "decode_tok_s": "decode tokens/s",
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
}


@dataclass(frozen=True, slots=True)
class Errors:
    """Absolute relative errors of some rows: in the fit, on devices and on models left out."""

    engine: str
    group: str
    speed: str
    rows: int
    devices: int
    fitted: tuple[float, float]
    left_out: tuple[float, float]
    model_left_out: tuple[float, float]
    bias: float
    """Median signed error on devices left out."""

    def document(self, by: str) -> dict[str, Any]:
        """The JSON form; ``by`` says what the group is one of."""
        return {
            "engine": self.engine,
            "by": by,
            "group": self.group,
            "speed": self.speed,
            "rows": self.rows,
            "devices": self.devices,
            "fit": {"median": self.fitted[0], "p90": self.fitted[1]},
            "leave_one_device_out": {"median": self.left_out[0], "p90": self.left_out[1]},
            "leave_one_model_out": {
                "median": self.model_left_out[0],
                "p90": self.model_left_out[1],
            },
            "bias": self.bias,
        }


def errors_by(judged: Sequence[Judged], group: str) -> list[Errors]:
    """Errors per engine, group and speed; ``group`` is a key of :data:`GROUPS`."""
    key = GROUPS[group]
    groups: dict[tuple[str, str, str], list[Judged]] = {}
    for one in judged:
        groups.setdefault((one.engine, key(one), one.row.speed), []).append(one)
    return [_errors(*names, found) for names, found in sorted(groups.items())]


def overall(judged: Sequence[Judged]) -> list[Errors]:
    """Errors per speed over all engines."""
    speeds = sorted({one.row.speed for one in judged})
    return [
        _errors("all", "", speed, [one for one in judged if one.row.speed == speed])
        for speed in speeds
    ]


@dataclass(frozen=True, slots=True)
class Tail:
    """What makes the largest errors of a speed, on devices left out."""

    speed: str
    median: float
    p90: float
    by: str
    """What the groups are of: ``model``, or ``box``, some devices of a kind together."""
    groups: tuple[tuple[str, str, int, int], ...]
    """Engine, model or box, rows, and those of them off by more than 2.5 times the median."""
    rest_rows: int
    rest_p90: float
    """Rows of no such group, and their p90."""

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "speed": self.speed,
            "by": self.by,
            "median": self.median,
            "p90": self.p90,
            "groups": [
                {"engine": engine, self.by: name, "rows": rows, "beyond": beyond}
                for engine, name, rows, beyond in self.groups
            ],
            "rest": {"rows": self.rest_rows, "p90": self.rest_p90},
        }


def tails(judged: Sequence[Judged]) -> list[Tail]:
    """The tail of each speed: engines with models, or boxes, of which over a quarter is in it."""
    speeds = sorted({one.row.speed for one in judged})
    return [_tail(judged, speed, by) for speed in speeds for by in ("model", "box")]


def _tail(judged: Sequence[Judged], speed: str, by: str) -> Tail:
    mine = [one for one in judged if one.row.speed == speed]
    median, p90 = _two([one.left_out for one in mine])
    groups: dict[tuple[str, str], list[Judged]] = {}
    for one in mine:
        box = f"{one.row.count} x {one.row.device.id}"
        name = one.row.model.id if by == "model" else box
        groups.setdefault((one.engine, name), []).append(one)
    named: list[tuple[str, str, int, int]] = []
    rest: list[Judged] = []
    for key, rows in sorted(groups.items()):
        beyond = sum(abs(one.left_out) > _FAR * median for one in rows)
        if len(rows) >= _FEW and beyond > _MANY * len(rows):
            named.append((*key, len(rows), beyond))
        else:
            rest += rows
    rest_p90 = _two([one.left_out for one in rest])[1] if rest else 0.0
    return Tail(speed, median, p90, by, tuple(named), len(rest), rest_p90)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many rows fall into the bands that predictions print, made without the rows' own."""

    speed: str
    left_out: str
    """What was left out: ``device``, ``model`` or ``class``."""
    rows: int
    median: float
    """Share of the rows within the median error; a half if bands are honest."""
    p90: float
    """Share of the rows within the p90; nine tenths if they are."""

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "speed": self.speed,
            "left_out": self.left_out,
            "rows": self.rows,
            "within_median": self.median,
            "within_p90": self.p90,
        }


def coverage(judged: Sequence[Judged]) -> list[Coverage]:
    """Shares of rows within the bands that a card would print of them had it not seen them.

    Each device is left out in turn, constants and bands are made without it, and its rows are
    compared; then each model, then each class.
    """
    return [one for new in _LEFT_OUT for one in _coverage(new, judged)]


def _coverage(new: New, judged: Sequence[Judged]) -> list[Coverage]:
    made: dict[tuple[object, ...], ErrorBand | None] = {}
    inside: dict[str, list[tuple[bool, bool]]] = {}
    for one in judged:
        key = (one.engine, one.regime, one.row.device.device_class, one.name(new))
        if key not in made:
            rest = [
                other
                for other in judged
                if other.regime == one.regime and other.name(new) != one.name(new)
            ]
            made[key] = _band_without(rest, one, new) if rest else None
        printed = made[key]
        if printed is not None:
            both = (one.error(new) <= printed.median, one.error(new) <= printed.p90)
            inside.setdefault(one.row.speed, []).append(both)
    return [
        Coverage(
            speed,
            new,
            len(both),
            sum(median for median, _ in both) / len(both),
            sum(p90 for _, p90 in both) / len(both),
        )
        for speed, both in sorted(inside.items())
    ]


def _band_without(rest: Sequence[Judged], one: Judged, new: New) -> ErrorBand:
    """The band that a card without the row has: of its class where any engine has others of it."""
    device_class = one.row.device.device_class
    if any(other.row.device.device_class == device_class for other in rest):
        return band(rest, one.engine, device_class, new)
    return band(rest, one.engine, "", "class")


def _regime(one: Judged) -> str:
    load = one.row.load
    tokens = load.cached_tokens + load.prompt_tokens
    size = "short" if tokens < 2048 else "long"
    return f"{size} prompts, {'one user' if load.batch == 1 else _users(load.batch)}"


def _users(batch: int) -> str:
    return "2-16 users" if batch <= 16 else "17-64 users" if batch <= 64 else "over 64 users"


GROUPS = {
    "device class": lambda one: one.row.device.device_class,
    "device": lambda one: one.row.device.id,
    "quant": lambda one: one.row.quant.id,
    "model": lambda one: one.row.model.id,
    "devices together": lambda one: str(one.row.count),
    "regime": _regime,
}
"""What the tables can be broken down by."""


def _two(errors: Sequence[float]) -> tuple[float, float]:
    """Median and p90 of absolute errors."""
    ordered = sorted(abs(error) for error in errors)
    return percentile(ordered, 50), percentile(ordered, 90)


def _errors(engine: str, group: str, speed: str, rows: Sequence[Judged]) -> Errors:
    return Errors(
        engine,
        group,
        speed,
        len(rows),
        len({one.row.device.id for one in rows}),
        _two([one.fitted for one in rows]),
        _two([one.left_out for one in rows]),
        _two([one.model_left_out for one in rows]),
        percentile(sorted(one.left_out for one in rows), 50),
    )


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """A fit with the files it was written to."""

    fitted: CalibratedEngines
    left_out: tuple[Counter[str], ...]
    files: tuple[Path, ...]

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        rows = self.fitted.rows
        return {
            "engines": [
                {"engine": engine.id, "file": str(path), "rows_left_out": dict(left)}
                for engine, path, left in zip(
                    self.fitted.engines, self.files, self.left_out, strict=True
                )
            ],
            "rows": len(rows),
            "constants": self.fitted.constants,
            "errors": [one.document("") for one in overall(rows)]
            + [one.document(group) for group in GROUPS for one in errors_by(rows, group)],
            "tails": [one.document() for one in tails(rows)],
            "coverage": [one.document() for one in coverage(rows)],
        }

    def text(self) -> Lines:
        """Texts and tables for people."""
        from rich.table import Table

        rows = self.fitted.rows
        devices = len({one.row.device.id for one in rows})
        yield (
            f"{len(rows)} measurements on {devices} devices, "
            f"{self.fitted.constants} constants fitted"
        )
        yield ""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("engine")
        table.add_column("class")
        table.add_column("speed")
        for name in ("rows", "fit", "p90", "device", "p90", "model", "p90", "bias"):
            table.add_column(name, justify="right")
        for one in [*overall(rows), *errors_by(rows, "device class")]:
            table.add_row(
                one.engine,
                one.group,
                NAMES[one.speed],
                str(one.rows),
                *(f"{value:.0%}" for value in (*one.fitted, *one.left_out, *one.model_left_out)),
                f"{one.bias:+.0%}",
            )
        yield table
        yield ""
        yield "device, model: left out, predicted by constants fitted to all other devices (models)"
        for covered in coverage(rows):
            yield (
                f"{NAMES[covered.speed]}, {covered.left_out} left out: {covered.median:.0%} of "
                f"{covered.rows} rows within the median that a card prints, "
                f"{covered.p90:.0%} within the p90"
            )
        for engine, left, path in zip(self.fitted.engines, self.left_out, self.files, strict=True):
            why = ", ".join(f"{count} {reason}" for reason, count in sorted(left.items()))
            yield f"{engine.id}: written to {path}" + (f"; rows not used: {why}" if why else "")


@dataclass(frozen=True, slots=True)
class KernelReport:
    """A fit to kernel times with the file it was written to."""

    fit: KernelFit
    file: Path

    @property
    def _errors(self) -> dict[str, Sequence[float]]:
        return {
            "fit": self.fit.fitted,
            "batch sizes left out": self.fit.left_out,
            "beside pieces of prompts": self.fit.mixed,
        }

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        errors = [
            {"of": name, "layers": len(found), "median": two[0], "p90": two[1]}
            for name, found in self._errors.items()
            if found and (two := _two(found))
        ]
        return {"engine": self.fit.engine.id, "file": str(self.file), "layer_errors": errors}

    def text(self) -> Lines:
        """Lines for people."""
        for name, found in self._errors.items():
            if found:
                median, p90 = _two(found)
                yield f"{len(found)} layers, {name}: error {median:.1%} median, {p90:.1%} p90"
        yield f"{self.fit.engine.id}: written to {self.file}"
