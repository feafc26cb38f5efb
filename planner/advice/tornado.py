"""Tornado: how much each uncertain input moves what a million output tokens cost."""

from __future__ import annotations

from collections.abc import Sequence

from planner.advice.alternative import Option, predicted
from planner.advice.lever import Lever
from planner.core.spec import Spec

FACTOR = 2.0
"""Inputs are halved and doubled, as far as they can be."""


class Swing(Spec):
    """What one option costs at two values of an input, everything else as today."""

    parameter: str
    option: str
    low: float
    high: float
    """The two values of the input, in its own unit."""
    low_text: str
    high_text: str
    low_usd: float | None
    high_usd: float | None
    """USD per million output tokens at them; None where nothing is served."""
    now_usd: float

    @property
    def width(self) -> float:
        """How far the two prices are apart."""
        return abs((self.high_usd or 0.0) - (self.low_usd or 0.0))


def swings(option: Option, levers: Sequence[Lever]) -> tuple[Swing, ...]:
    """The inputs that move the price of an option, the strongest first."""

    def usd(one: Option) -> float | None:
        return predicted(one).metrics.usd_per_million_output_tokens

    now_usd = usd(option)
    if not now_usd:
        return ()
    found = []
    for lever in levers:
        low, high = max(lever.low, lever.now / FACTOR), min(lever.high, lever.now * FACTOR)
        if lever.whole:
            low, high = max(1.0, round(low)), round(high)
        ends = [usd(lever.moved(option, value)) for value in (low, high)]
        if all(end is not None and abs(end / now_usd - 1) < 1e-9 for end in ends):
            continue
        found.append(
            Swing(
                parameter=lever.name,
                option=option.name,
                low=low,
                high=high,
                low_text=lever.say(low),
                high_text=lever.say(high),
                low_usd=ends[0],
                high_usd=ends[1],
                now_usd=now_usd,
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.width, one.parameter)))
