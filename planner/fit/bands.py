"""Error bands that hold: quantiles of errors where a device, a model or a class was left out.

A band is made for what is new in a prediction, from errors where just that was left out: how far
off models are on devices that were measured says little of devices that were not. Rows stand in
three circles around what is asked: of its device class under its engine, of the engine, and of all
that was fitted with it. The outer ones count as two devices and as one, however many they have:
what was measured at hand decides where there is enough of it, and what is known elsewhere
where there is not. In statistics these are conformal bands of leave-one-out residuals (Barber,
Candes, Ramdas and Tibshirani, 2021), by group and shrunk towards the pooled ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from planner.core.cost.measured import MeasuredSpeed
from planner.core.trust import Bands, ErrorBand, New, Regime

OF_PROMPTS = ("prefill_tok_s", "ttft_ms")
"""Speeds that the prompt decides; the tokens after it decide the others."""
_OUTER = (2.0, 1.0)
"""Devices as which the rest of an engine counts at most, and other engines. The quantile loss on
devices and models left out is the same within 3 % for 1 to 4; less holds too little, more tells
classes apart too little."""
_LEFT_OUT: Mapping[New, str] = {
    "model": "the model",
    "device": "the device",
    "both": "the device and without the model",
    "class": "all devices of the class",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A measurement with its error in the fit, and where what it is of was left out."""

    engine: str
    row: MeasuredSpeed
    fitted: float
    left_out: float
    model_left_out: float
    class_left_out: float

    @property
    def regime(self) -> Regime:
        """Whether a prompt or the tokens after it were timed."""
        return "prompt" if self.row.speed in OF_PROMPTS else "token"

    def error(self, new: New) -> float:
        """How far off it is where that is new.

        Where device and model were left out together, median and p90 were those of the larger of
        the two errors, within a tenth.
        """
        if new == "both":
            return max(abs(self.left_out), abs(self.model_left_out))
        found = {"device": self.left_out, "model": self.model_left_out}
        return abs(found.get(new, self.class_left_out))

    def name(self, new: New) -> tuple[str, ...]:
        """What of it was left out."""
        device, model = self.row.device, self.row.model.id
        parts = {"device": (device.id,), "model": (model,), "both": (device.id, model)}
        return parts.get(new, (device.device_class,))


def bands(rows: Sequence[Judged], engine: str, device_class: str, new: New) -> Bands:
    """The bands of an engine on a class of devices: of each regime that the engine has rows of."""
    regimes = {one.regime for one in rows if one.engine == engine}
    return {
        regime: band([one for one in rows if one.regime == regime], engine, device_class, new)
        for regime in get_args(Regime)
        if regime in regimes
    }


def band(rows: Sequence[Judged], engine: str, device_class: str, new: New) -> ErrorBand:
    """Median and p90 of the errors of some rows, as they count for a class under an engine."""
    circles = [_circle(one, engine, device_class) for one in rows]
    votes = Counter(circles)
    inner = min(votes)
    names = {one.name(new) for one, circle in zip(rows, circles, strict=True) if circle == inner}
    unit = votes[inner] / len(names)
    most = (math.inf, *(unit * outer for outer in _OUTER))
    weights = np.array([min(1.0, most[circle] / votes[circle]) for circle in circles])
    errors = np.array([one.error(new) for one in rows])
    median, p90 = (_quantile(errors, weights, share) for share in (0.5, 0.9))
    return ErrorBand(median=median, p90=p90, source=_source(rows, circles, new)).rounded()


def _circle(one: Judged, engine: str, device_class: str) -> int:
    """How far a row is from a class under an engine: 0 of both, 1 of the engine, 2 of neither."""
    if one.engine != engine:
        return 2
    return int(one.row.device.device_class != device_class)


def _quantile(
    errors: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], share: float
) -> float:
    """The least error that, with all smaller ones, has a ``share`` of the weight."""
    order = np.argsort(errors, kind="stable")
    heavy = np.cumsum(weights[order])
    index = int(np.searchsorted(heavy, share * heavy[-1] * (1 - 1e-12)))
    return float(errors[order][index])


def _source(rows: Sequence[Judged], circles: Sequence[int], new: New) -> str:
    """How much a band rests on, by circle."""
    said = []
    for circle, where in enumerate(("of the class", "of other classes", "under other engines")):
        mine = [one for one, its in zip(rows, circles, strict=True) if its == circle]
        if mine:
            count = len({one.row.device.id for one in mine})
            said.append(f"{len(mine)} rows on {count} device{'s' * (count > 1)} {where}")
    return f"{', '.join(said)}; without {_LEFT_OUT[new]}"
