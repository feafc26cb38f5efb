"""Fit of engines to published speeds, and how wrong it is on devices it did not see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.core.cost.measured import SPEEDS, MeasuredSpeed
from planner.core.device import Device
from planner.core.engine import Engine
from planner.fit.descent import least_squares
from planner.fit.knobs import Knob, Knobs, Place, calibration, habits, scheme_key
from planner.fit.slope import log_slopes, variables

_SCALE = 0.1
"""Relative errors beyond this count less than their square: tables have bad rows."""
_CROWDED = 1.1
"""Memory that a run needs over what there is, beyond what an estimate of memory may be off."""
_MOST, _AGAIN, _ENOUGH = 40, 4, 1e-3
"""Steps of a fit, and where it begins at the fit to all rows; the share that the last one gains
where something is left out."""
_NEARLY_ALL = 0.97
"""Share of the rows whose fit may begin at the fit to all: beyond, it would remember what it must
not have seen. Devices with fewer rows come out alike from there and from nothing."""

Vector = npt.NDArray[np.float64]
Row = tuple[Engine, MeasuredSpeed]


@dataclass(frozen=True, slots=True)
class FittedSpeeds:
    """Knobs that say the rows best, and the signed relative error of every row."""

    turned: Mapping[Knob, float]
    errors: tuple[float, ...]


def held(engine: Engine, rows: Sequence[MeasuredSpeed]) -> list[MeasuredSpeed]:
    """The rows but serving runs with more users than memory holds: some waited for a seat."""
    return [
        row
        for row in rows
        if row.speed not in ("ttft_ms", "tpot_ms") or row.crowding(engine) <= _CROWDED
    ]


def fit_speeds(
    rows: Sequence[Row],
    *,
    fresh: bool = False,
    begin: Mapping[Knob, float] | None = None,
    most: int = _MOST,
    gain: float = 1e-4,
) -> FittedSpeeds:
    """The knobs under which the rows are predicted best.

    They shift the engines' present constants, or what is usual where the fit is ``fresh``. The
    search starts at ``begin`` and takes ``most`` steps, as long as they gain a share ``gain``.

    Least squares of log(predicted / measured) under the soft-L1 loss, with the knobs' own spreads
    as a second set of measurements (ridge regression; a maximum a posteriori estimate).
    """
    knobs = Knobs.for_rows(rows)
    blocks = _blocks(rows, fresh)
    logs = np.log([row.value for _, row in rows])
    spreads = np.array(knobs.spreads)
    first = np.array([(begin or {}).get(name, 0.0) for name in knobs.names])

    def residuals(vector: Vector) -> Vector:
        turned = knobs.turned(vector.tolist())
        said = np.empty(len(rows))
        for block in blocks:
            said[block.index] = block.logs(turned)
        return np.concatenate([_soft(said - logs), _SCALE * vector / spreads])

    def slopes(vector: Vector) -> Vector:
        turned = knobs.turned(vector.tolist())
        matrix = np.zeros((len(rows) + len(vector), len(vector)))
        for block in blocks:
            columns = [column for column, name in enumerate(knobs.names) if name in block.knobs]
            here, by = block.slopes(turned, [knobs.names[column] for column in columns])
            softened = _soft_slope(here - logs[block.index])
            matrix[np.ix_(block.index, columns)] = softened[:, None] * by
        matrix[len(rows) :] = np.diag(_SCALE / spreads)
        return matrix

    found = least_squares(residuals, slopes, first, most, gain)
    turned = knobs.turned([float(value) for value in found])
    return FittedSpeeds(turned, tuple(errors(rows, turned, fresh)))


def errors(rows: Sequence[Row], turned: Mapping[Knob, float], fresh: bool) -> list[float]:
    """Signed relative error of every row under the knobs."""
    found = [0.0] * len(rows)
    for block in _blocks(rows, fresh):
        for index, said in zip(block.index, block.logs(turned), strict=True):
            found[index] = math.exp(float(said)) / rows[index][1].value - 1
    return found


def of_device(row: MeasuredSpeed) -> str:
    """The device, for ``left_out``."""
    return row.device.id


def of_model(row: MeasuredSpeed) -> str:
    """The model, for ``left_out``."""
    return row.model.id


def of_class(row: MeasuredSpeed) -> str:
    """The class of the device, for ``left_out``."""
    return row.device.device_class


def left_out(
    rows: Sequence[Row],
    whole: FittedSpeeds,
    fresh: bool,
    of: Callable[[MeasuredSpeed], str] = of_device,
) -> list[float]:
    """Error of every row when a fit does not see its device (model, class), under any engine."""
    found = [0.0] * len(rows)
    for name in sorted({of(row) for _, row in rows}):
        others = [pair for pair in rows if of(pair[1]) != name]
        mine = [index for index, (_, row) in enumerate(rows) if of(row) == name]
        nearly_all = len(others) > _NEARLY_ALL * len(rows)
        begin = _known(whole, others) if nearly_all else None
        most = _AGAIN if nearly_all else _MOST
        turned: Mapping[Knob, float] = {}
        if others:
            again = fit_speeds(others, fresh=fresh, begin=begin, most=most, gain=_ENOUGH)
            turned = again.turned
        said = errors([rows[index] for index in mine], turned, fresh)
        for index, error in zip(mine, said, strict=True):
            found[index] = error
    return found


def _known(whole: FittedSpeeds, rows: Sequence[Row]) -> Mapping[Knob, float]:
    """The knobs of a fit that some rows can turn."""
    names = set(Knobs.for_rows(rows).names)
    return {name: value for name, value in whole.turned.items() if name in names}


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one engine at one place: they share a calibration."""

    engine: Engine
    schemes: tuple[str, ...]
    rows: tuple[MeasuredSpeed, ...]
    index: list[int]
    knobs: frozenset[Knob]
    fresh: bool

    def logs(self, turned: Mapping[Knob, float]) -> Vector:
        """Logarithms of what is predicted for the rows."""
        return np.log(self._speeds(turned))

    def slopes(self, turned: Mapping[Knob, float], knobs: Sequence[Knob]) -> tuple[Vector, Vector]:
        """The same, and their derivatives by some knobs: [row], [row, knob]."""
        moving = dict(zip(knobs, variables(turned[knob] for knob in knobs), strict=True))
        speeds = self._speeds({**turned, **moving})
        return np.log(speeds), log_slopes(speeds, len(knobs))

    def _speeds(self, turned: Mapping[Knob, float]) -> list[float]:
        engine = at_place(self.engine, turned, self.rows[0].device, self.schemes, self.fresh)
        found = {row.asked: row for row in self.rows}
        said = {asked: row.estimated(engine) for asked, row in found.items()}
        return [SPEEDS[row.speed](said[row.asked]) for row in self.rows]


def at_place(
    engine: Engine,
    turned: Mapping[Knob, float],
    device: Device,
    schemes: Sequence[str],
    fresh: bool,
) -> Engine:
    """The engine as it is on devices like ``device``; ``fresh`` forgets its present constants."""
    begin = None if fresh else engine.calibration(device)
    found = calibration(turned, Place.of(engine, device), schemes, begin)
    blank = found.model_copy(update={"device": "", "device_class": "", "architecture": ""})
    return engine.model_copy(update=habits(turned, engine, fresh) | {"calibrations": (blank,)})


def _blocks(rows: Sequence[Row], fresh: bool) -> list[_Block]:
    groups: dict[tuple[str, Place], list[int]] = {}
    for index, (engine, row) in enumerate(rows):
        groups.setdefault((engine.id, Place.of(engine, row.device)), []).append(index)
    found = []
    for together in groups.values():
        mine = [rows[position] for position in together]
        schemes = tuple(sorted({"*", *(scheme_key(row.quant) for _, row in mine)}))
        found.append(
            _Block(
                mine[0][0],
                schemes,
                tuple(row for _, row in mine),
                together,
                frozenset(Knobs.for_rows(mine).names),
                fresh,
            )
        )
    return found


def _soft_slope(errors: Vector) -> Vector:
    """Derivative of ``_soft``."""
    within = np.sqrt(1 + (errors / _SCALE) ** 2)
    found: Vector = np.sqrt((within + 1) / 2) / within
    return found


def _soft(errors: Vector) -> Vector:
    """Residuals whose squares are the soft-L1 loss of ``errors``."""
    beyond: Vector = np.sqrt(2 * (np.sqrt(1 + (errors / _SCALE) ** 2) - 1))
    found: Vector = np.sign(errors) * _SCALE * beyond
    return found
