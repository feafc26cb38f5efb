"""Trust: what a prediction rests on, and how far off such predictions were."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median_high
from typing import Annotated, Literal, get_args

from pydantic import Field

from planner.core.spec import Spec

Regime = Literal["prompt", "token"]
"""What a prediction is of: a prompt (prefill, TTFT), or the tokens after it (decode, TPOT)."""

New = Literal["model", "device", "both", "class"]
"""What of a prediction was not measured under its engine: the model; the device, though others of
its class were under this engine or one that was fitted with it; both; nothing of its class."""


class ErrorBand(Spec):
    """How far predictions were off on data that their constants were not fitted to."""

    median: Annotated[float, Field(ge=0)]
    p90: Annotated[float, Field(ge=0)]
    source: str = Field(min_length=1)
    """Which table or command the figures come from."""

    @property
    def figures(self) -> dict[str, float]:
        """Median and p90 by name."""
        return {"median": self.median, "p90": self.p90}

    def rounded(self) -> ErrorBand:
        """To whole per cent, never down."""
        median, p90 = (math.ceil(value * 100) / 100 for value in (self.median, self.p90))
        return self.model_copy(update={"median": median, "p90": p90})


Bands = dict[Regime, ErrorBand]


class Measured(Spec):
    """What the constants of an engine were fitted to."""

    devices: tuple[str, ...]
    models: tuple[str, ...]
    elsewhere: Bands
    """Error on devices of whose class there is no row: whole classes left out in turn."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a prediction rests on."""

    tier: Literal[0, 1, 2]
    new: New | None = None
    """What of it was not measured; None where all was, or where nothing is known of it."""
    bands: Mapping[Regime, ErrorBand] = field(default_factory=dict)
    whole: ErrorBand | None = None
    """Of prompts and later tokens together, where they were not told apart."""

    @property
    def band(self) -> ErrorBand | None:
        """One band for all of a prediction: the wider one of its regimes."""
        return max(self.bands.values(), key=lambda band: band.p90, default=self.whole)

    @property
    def bands_figures(self) -> dict[Regime, dict[str, float]]:
        """Median and p90 of each regime."""
        return {regime: band.figures for regime, band in self.bands.items()}


def together(stages: Sequence[Trust]) -> Trust:
    """What a plan rests on: its weakest tier, and of each regime the widest band of any stage.

    Stages without any band add none; one whose regimes were not told apart counts in both.
    What is new is told of the stage that is the furthest off.
    """
    tier = min(stage.tier for stage in stages)
    known = [stage for stage in stages if stage.band is not None]
    if not known:
        return Trust(tier, stages[0].new)
    worst = max(known, key=_p90)
    found = {
        regime: [band for stage in known if (band := stage.bands.get(regime, stage.whole))]
        for regime in get_args(Regime)
        if any(regime in stage.bands for stage in known)
    }
    bands = {regime: max(every, key=lambda band: band.p90) for regime, every in found.items()}
    return Trust(tier, worst.new, bands, None if bands else worst.whole)


def _p90(stage: Trust) -> float:
    return stage.band.p90 if stage.band else 0.0


def at_least(bands: Bands, measured: Iterable[Bands]) -> Bands:
    """The bands of what was never measured, no narrower than is usual where something was.

    Shrunk towards what other engines say, they may come out narrower than those of classes with
    rows; of these the middle one, in median and p90, is the least.
    """
    others = list(measured)
    widened: Bands = {}
    for regime, band in bands.items():
        known = [other[regime] for other in others if regime in other]
        if known:
            least = {
                "median": max(band.median, median_high(one.median for one in known)),
                "p90": max(band.p90, median_high(one.p90 for one in known)),
            }
            band = band.model_copy(update=least)
        widened[regime] = band
    return widened


def narrower(bands: Mapping[New, Bands]) -> Bands:
    """What holds where nothing is new: of each regime the smallest figures of all bands."""
    found: Bands = {}
    for regime, new in chain.from_iterable(one.items() for one in bands.values()):
        old = found.get(regime, new)
        smaller = {"median": min(old.median, new.median), "p90": min(old.p90, new.p90)}
        found[regime] = old.model_copy(update=smaller)
    return found
