"""Tables, bars and figures that several reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from planner.core.metrics import Metrics
from planner.core.trust import New, Regime
from planner.core.units import plain, show

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Lines: TypeAlias = "Iterator[RenderableType]"
"""Texts and tables for people, in order."""

GIB = 2.0**30
BAR = 24

TIERS = ("datasheet and defaults", "fitted to published timings", "fitted to kernels timed on it")
"""What each calibration tier rests on."""

_REGIMES: Mapping[Regime, str] = {"prompt": "prefill", "token": "decode"}
_NEW: Mapping[New | None, str] = {
    None: "device and model were measured",
    "model": "the device was measured, the model was not",
    "device": "the device was not measured, others of its class were",
    "both": "neither device nor model was measured",
    "class": "no device of its class was measured",
}


def table(*columns: str) -> Table:
    """A table without lines; a column that starts with ``>`` holds figures."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        right = column.startswith(">")
        made.add_column(
            column.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    return made


def grid(*columns: str) -> Table:
    """A table without header; ``>`` stands for a column of figures, ``<`` for one of words."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(justify="right" if column == ">" else "left", overflow="fold")
    return made


def bar(share: float, width: int = BAR) -> str:
    """A bar as long as ``share`` of ``width`` characters, never longer."""
    return "█" * round(min(1.0, max(0.0, share)) * width)


def gauge(used: float, whole: float, width: int = 6) -> str:
    """How much of something is used up, as ``[####....]``."""
    full = round(min(1.0, used / whole if whole else 1.0) * width)
    return f"[{'#' * full}{'.' * (width - full)}]"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    return show(seconds, "s", 3)


def signed(fraction: float | None) -> str:
    """A signed percentage."""
    return "-" if fraction is None else f"{fraction:+.1%}"


def plain_metrics(metrics: Metrics) -> dict[str, Any]:
    """Metrics as a JSON object."""
    return metrics.model_dump(mode="json")


def trust(
    tier: int,
    error_band: Mapping[str, float] | None,
    new: New | None = None,
    error_bands: Mapping[Regime, Mapping[str, float]] = MappingProxyType({}),
) -> str:
    """How far a prediction can be trusted: what it rests on, and its error on other data."""
    told = f"Calibration tier {tier}: {TIERS[tier]}"
    if error_bands:
        apart = ", ".join(
            f"{_REGIMES[regime]} {band['median']:.0%} in the median and {band['p90']:.0%} at p90"
            for regime, band in error_bands.items()
        )
        return f"{told}; {_NEW[new]}. Measured error of such predictions: {apart}"
    if not error_band:
        return f"{told}; nothing was measured to tell its error"
    return (
        f"{told}; measured error of such predictions: {error_band['median']:.0%} in the median, "
        f"{error_band['p90']:.0%} at p90"
    )


def cost_rows(parts: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """Parts of an hourly cost that are not zero, largest first, and their sum."""
    for name, value in sorted(parts.items(), key=lambda part: (-part[1], part[0])):
        if value:
            yield name, f"{plain(value)} USD/h"
    yield "in all", f"{plain(sum(parts.values()))} USD/h"
