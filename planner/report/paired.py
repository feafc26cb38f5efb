"""Differences of targets that met the same random numbers, run by run."""

from __future__ import annotations

from collections.abc import Sequence

from planner.core.metrics import Metrics
from planner.core.words import figure
from planner.report.tables import Lines, table
from planner.sim.replicate import differences

_SHOWN = {
    "usd_per_million_output_tokens": ">USD/Mtok",
    "mean_tpot_ms": ">mean TPOT",
    "p95_ttft_ms": ">p95 TTFT",
    "output_throughput": ">tok/s",
}


def paired(
    one: Sequence[Metrics], other: Sequence[Metrics], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Mean, low and high of the differences; none where there are no pairs of several runs."""
    if not len(one) == len(other) > 1:
        return {}
    moved = differences(one, other)
    return {
        name: dict(zip(("mean", "low", "high"), moved[name], strict=True))
        for name in names
        if name in moved
    }


def paired_text(targets: Sequence[tuple[str, Sequence[Metrics]]]) -> Lines:
    """How far the others are from the first target; nothing where that is not known."""
    (first, runs), *others = targets
    rows = table("", *_SHOWN.values())
    for name, each in others:
        if moved := paired(runs, each, tuple(_SHOWN)):
            rows.add_row(f"  {name}", *(_cell(metric, moved.get(metric)) for metric in _SHOWN))
    if rows.row_count:
        yield ""
        yield f"Difference from {first}, paired by run: mean and 95 % confidence interval"
        yield rows


def _cell(metric: str, moved: dict[str, float] | None) -> str:
    if moved is None:
        return ""
    mean, low, high = (figure(metric, moved[end], unit=False) for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
