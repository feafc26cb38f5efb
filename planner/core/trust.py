"""Trust: what a prediction rests on, and how far off such predictions were."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Literal

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


def narrower(bands: Mapping[New, Bands]) -> Bands:
    """What holds where nothing is new: of each regime the smallest figures of all bands."""
    found: Bands = {}
    for regime, new in chain.from_iterable(one.items() for one in bands.values()):
        old = found.get(regime, new)
        smaller = {"median": min(old.median, new.median), "p90": min(old.p90, new.p90)}
        found[regime] = old.model_copy(update=smaller)
    return found
