"""Tables, bars and figures that several reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from planner.core.metrics import Metrics
from planner.core.requirements import Miss
from planner.core.trust import New, Regime
from planner.core.units import show

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Lines: TypeAlias = "Iterator[RenderableType]"
"""Texts and tables for people, in order."""

GIB = 2.0**30
BAR = 24

TIERS = ("datasheet and defaults", "fitted to published timings", "fitted to kernels timed on it")
"""What each calibration tier rests on."""

_REGIMES: Mapping[Regime, str] = {"prompt": "prompts", "token": "later tokens"}
_NEW: Mapping[New | None, str] = {
    None: "device and model were measured",
    "model": "the device was measured, the model was not",
    "device": "the device was not measured, others of its class were",
    "both": "neither device nor model was measured",
    "class": "no device of its class was measured",
}

LABELS: Mapping[str, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "gap between tokens",
    "e2el": "time to last token",
    "output_throughput": "output tokens per second",
    "total_token_throughput": "tokens per second, prompts included",
    "request_throughput": "requests per second",
    "request_goodput": "requests per second within bounds",
    "completed": "requests completed",
    "failed": "requests failed",
    "availability": "availability",
    "usd_per_hour": "USD per hour",
    "usd_per_million_output_tokens": "USD per million output tokens",
    "quality": "share of the quality kept",
    "weighted": "weighted sum",
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


def figure(metric: str, value: float | None, unit: bool = True) -> str:
    """A metric's value in three to four digits, with its unit unless told otherwise."""
    if value is None:
        return "-"
    if metric in ("availability", "quality"):
        return f"{value:.2%}"
    digits = f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{digits} {unit_of(metric)}".rstrip() if unit else digits


def unit_of(metric: str) -> str:
    """The unit of a metric, as it is written behind figures."""
    if metric.endswith("_ms"):
        return "ms"
    if metric in ("output_throughput", "total_token_throughput"):
        return "tok/s"
    if metric in ("request_throughput", "request_goodput"):
        return "req/s"
    others = {
        "usd_per_hour": "USD/h",
        "usd_per_million_output_tokens": "USD/Mtok",
        "weighted": "points",
    }
    return others.get(metric, "")


def label(metric: str) -> str:
    """A metric in plain words, such as ``p95 time to first token``."""
    if metric in LABELS:
        return LABELS[metric]
    if metric.startswith("worst_"):
        return f"{label(metric.removeprefix('worst_'))} of the worst pipeline"
    statistic, _, rest = metric.removesuffix("_ms").partition("_")
    return f"{statistic} {LABELS.get(rest, rest)}"


def missed_text(miss: Miss) -> str:
    """A broken bound in one clause."""
    name, bound = label(miss.metric), figure(miss.metric, miss.bound)
    if miss.value is None:
        return f"{name} is unknown, asked is {bound}"
    return f"{name} is {figure(miss.metric, miss.value)}, asked is {bound}"


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
            f"{_REGIMES[regime]} by {band['median']:.0%} in the median and {band['p90']:.0%} at p90"
            for regime, band in error_bands.items()
        )
        return f"{told}; {_NEW[new]}. Such predictions were off: {apart}"
    if not error_band:
        return f"{told}; nothing was measured to tell its error"
    return (
        f"{told}; such predictions were off by {error_band['median']:.0%} in the median, "
        f"{error_band['p90']:.0%} at p90"
    )


def cost_rows(parts: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    """Parts of an hourly cost that are not zero, largest first, and their sum."""
    for name, value in sorted(parts.items(), key=lambda part: (-part[1], part[0])):
        if value:
            yield name, f"{value:.4g} USD/h"
    yield "in all", f"{sum(parts.values()):.4g} USD/h"
