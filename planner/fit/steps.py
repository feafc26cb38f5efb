"""Robust fit of a calibration to measured steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration
from planner.core.metrics import percentile
from planner.core.trust import ErrorBand
from planner.fit.constants import Free, from_vector, ranges, to_vector

_RAISED = (1.0, 1.3, 1.8)
"""Times the bandwidth that the smallest steps suggest: overheads make them look slower."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration and how well it says the steps it was fitted to."""

    calibration: Calibration
    errors: tuple[float, ...]
    """Signed relative error of every step, in the order given."""
    constants: int
    """How many constants were fitted."""


def fit(
    steps: Sequence[MeasuredStep], start: Calibration, free: Free, tolerance: float = 1e-8
) -> Fitted:
    """The calibration under which the steps are predicted best.

    Least squares of log(predicted / measured) with the soft-L1 loss (Huber, 1964; as in
    ``scipy.optimize.least_squares``), which a few bad measurements do not bend. A roofline has
    no slope in the term that hides behind the other one, so the search also starts from what
    the steps themselves suggest, with either term above the other. It ends where a step changes
    neither the sum of squares nor the constants by more than ``tolerance``, as fractions. Raises
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

    raises = _RAISED if free.bandwidth else _RAISED[:1]
    begins = [start, *(guess(steps, start, free, raised) for raised in raises)]
    solutions = [
        least_squares(
            residuals,
            to_vector(begin, free),
            bounds=ranges(start, free),
            loss="soft_l1",
            f_scale=0.05,
            ftol=tolerance,
            xtol=tolerance,
        )
        for begin in begins
    ]
    best = min(solutions, key=lambda solution: float(solution.cost))
    calibration = from_vector(start, free, [float(value) for value in best.x])
    errors = tuple(step.error(calibration) for step in steps)
    return Fitted(calibration, errors, len(vector))


def guess(
    steps: Sequence[MeasuredStep], start: Calibration, free: Free, raised: float = 1.0
) -> Calibration:
    """The starting calibration with every free efficiency of products read off the steps.

    The share of the FLOP/s at a point of a curve is what the steps of about that many tokens
    would reach if products were all they did; the share of the bandwidth likewise, from the
    smallest steps, times ``raised``.
    """
    efficiency = dict(start.efficiency)
    for key in free.compute:
        mine = [step for step in steps if key in (step.quant.id, step.quant.compute_dtype, "*")]
        curve = efficiency[key].compute
        knots = [tokens for tokens, _ in curve] if isinstance(curve, tuple) else [1.0]
        found: list[list[float]] = [[] for _ in knots]
        for step in mine:
            distance = [abs(math.log(step.batch.new_tokens / knot)) for knot in knots]
            found[distance.index(min(distance))].append(_compute_share(step))
        shares = [
            percentile(sorted(values), 50) if values else efficiency[key].compute_at(knot)
            for knot, values in zip(knots, found, strict=True)
        ]
        changed = tuple(zip(knots, shares, strict=True)) if isinstance(curve, tuple) else shares[0]
        efficiency[key] = efficiency[key].model_copy(update={"compute": changed})
    for key in free.bandwidth:
        mine = [step for step in steps if key in (step.quant.id, step.quant.compute_dtype, "*")]
        fewest = min((step.batch.new_tokens for step in mine), default=0)
        found_shares = sorted(_read_share(s) for s in mine if s.batch.new_tokens == fewest)
        if found_shares:
            share = raised * percentile(found_shares, 80)
            efficiency[key] = efficiency[key].model_copy(update={"bandwidth": share})
    return start.model_copy(update={"efficiency": efficiency})


def _compute_share(step: MeasuredStep) -> float:
    params = sum(layer.active_params for layer in step.model.layers[step.start : step.stop])
    peak = step.device.peak_flop_per_s(step.quant.compute_dtype) * step.count
    return 2 * params * step.batch.new_tokens / (peak * step.seconds)


def _read_share(step: MeasuredStep) -> float:
    layers = step.model.layers[step.start : step.stop]
    read_bytes = sum(step.quant.layer_bytes(layer.params) for layer in layers)
    return read_bytes / (step.device.memory_bytes_per_s * step.count * step.seconds)


def error_band(errors: Iterable[float], source: str) -> ErrorBand:
    """Median and p90 of absolute relative errors."""
    ordered = sorted(abs(error) for error in errors)
    return ErrorBand(median=percentile(ordered, 50), p90=percentile(ordered, 90), source=source)
