"""Robust fit of a calibration to measured steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.core.cost import Batch, Chip, stage_time
from planner.core.device import Device
from planner.core.engine import Calibration, ErrorBand
from planner.core.metrics import percentile
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.fit.constants import Free, from_vector, ranges, to_vector


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """How long layers ``[start, stop)`` of a model took for one step of a batch."""

    device: Device
    model: ModelSpec
    start: int
    stop: int
    quant: QuantScheme
    batch: Batch
    seconds: float
    count: int = 1
    """Devices that worked on it together."""

    def predicted_s(self, calibration: Calibration) -> float:
        """What the cost model says under a calibration (s)."""
        chip = Chip(self.device, calibration, self.count)
        return stage_time(self.model, self.start, self.stop, self.quant, chip, self.batch).total_s

    def error(self, calibration: Calibration) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s(calibration) / self.seconds - 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and how well it says the steps it was fitted to."""

    calibration: Calibration
    errors: tuple[float, ...]
    """Signed relative error of every step, in the order given."""
    constants: int
    """How many constants were fitted."""


def fit(steps: Sequence[MeasuredStep], start: Calibration, free: Free) -> Fitted:
    """The calibration under which the steps are predicted best.

    Least squares of log(predicted / measured) with the soft-L1 loss (Huber, 1964; as in
    ``scipy.optimize.least_squares``), which a few bad measurements do not bend. Raises
    ValueError with fewer steps than constants.
    """
    from scipy.optimize import least_squares

    vector = to_vector(start, free)
    if len(steps) < len(vector):
        raise ValueError(f"{len(steps)} measured steps cannot fix {len(vector)} constants")
    logs = [math.log(step.seconds) for step in steps]

    def residuals(candidate: Sequence[float]) -> list[float]:
        calibration = from_vector(start, free, candidate)
        return [
            math.log(step.predicted_s(calibration)) - log
            for step, log in zip(steps, logs, strict=True)
        ]

    solution = least_squares(
        residuals, vector, bounds=ranges(start, free), loss="soft_l1", f_scale=0.05
    )
    calibration = from_vector(start, free, [float(value) for value in solution.x])
    errors = tuple(step.error(calibration) for step in steps)
    return Fitted(calibration, errors, len(vector))


def error_band(errors: Iterable[float], source: str) -> ErrorBand:
    """Median and p90 of absolute relative errors."""
    ordered = sorted(abs(error) for error in errors)
    return ErrorBand(
        median=min(1.0, percentile(ordered, 50)), p90=percentile(ordered, 90), source=source
    )
