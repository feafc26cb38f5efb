"""Predicted, simulated and measured beside each other, as shares of the best that is known."""

from __future__ import annotations

from collections.abc import Sequence

from planner.core.metrics import Metrics
from planner.core.words import figure, label
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Facts
from planner.report.tables import signed

_SHOWN = (
    "mean_ttft_ms",
    "p95_ttft_ms",
    "mean_tpot_ms",
    "p95_tpot_ms",
    "mean_e2el_ms",
    "output_throughput",
)
_MARKS = {
    "predicted": ("circle-open", draw.GREY),
    "simulated": ("diamond", draw.BLUE),
    "measured": ("line-ns-open", draw.ORANGE),
}
_GLYPHS = {"predicted": "○", "simulated": "◆", "measured": "❙"}


def agreement_figure(facts: Facts) -> Figure | None:
    """How far the others are from what was measured, or simulated where nothing was measured."""
    known: list[tuple[str, Metrics]] = [("predicted", facts.prediction.metrics)]
    known += [(one.name, one.metrics) for one in facts.served]
    if len(known) < 2:
        return None
    against, truth = known[-1]
    names = [name for name in _SHOWN if getattr(truth, name) and _others(known, name)]
    if not names:
        return None
    notes: list[Json] = []
    data: list[Json] = []
    for row, name in enumerate(names):
        worst = max(_errors(known, name), key=abs)
        value = f"{figure(name, getattr(truth, name))} · {signed(worst)}"
        notes += draw.row_label(row, label(name), value)
    for who, metrics in known:
        symbol, colour = _MARKS[who]
        rows = [row for row, name in enumerate(names) if getattr(metrics, name) is not None]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": who,
                "x": [_ratio(metrics, truth, names[row]) for row in rows],
                "y": rows,
                "marker": {
                    "symbol": symbol,
                    "size": 20 if who == "measured" else 12,
                    "color": colour,
                    "line": {"width": 3, "color": colour},
                },
                "hovertext": [
                    f"{who}: {figure(names[row], getattr(metrics, names[row]))}" for row in rows
                ],
                "hoverinfo": "text",
            }
        )
    return Figure(
        "agreement",
        _said(facts, known, names),
        data,
        draw.layout(
            draw.ROW_PX * len(names) + 56,
            xaxis=draw.axis(f"against {against}, = 100 %", ticksuffix=" %", range=_range(data)),
            yaxis=draw.rows_axis(len(names)),
            shapes=_shapes(facts, against),
            annotations=notes,
        ),
        ("figure", *(who for who, _ in known), "error of the first"),
        tuple(
            (
                label(name),
                *(figure(name, getattr(metrics, name)) for _, metrics in known),
                signed(_errors(known, name)[0]) if _errors(known, name) else "-",
            )
            for name in names
        ),
        tuple((_GLYPHS[who], _MARKS[who][1], who) for who, _ in known),
    )


def _others(known: Sequence[tuple[str, Metrics]], name: str) -> bool:
    return any(getattr(metrics, name) is not None for _, metrics in known[:-1])


def _ratio(metrics: Metrics, truth: Metrics, name: str) -> float:
    ratio: float = getattr(metrics, name) / getattr(truth, name)
    return 100 * ratio


def _errors(known: Sequence[tuple[str, Metrics]], name: str) -> list[float]:
    truth = known[-1][1]
    others = [metrics for _, metrics in known[:-1] if getattr(metrics, name) is not None]
    return [_ratio(metrics, truth, name) / 100 - 1 for metrics in others]


def _range(data: Sequence[Json]) -> list[float]:
    """Round the truth, wide enough for the farthest mark and for a tenth at least."""
    ratios = [x for trace in data for x in trace["x"]]
    reach = max(10.0, 1.15 * max(abs(x - 100) for x in ratios))
    return [max(-0.05 * reach, 100 - reach), 100 + reach]


def _shapes(facts: Facts, against: str) -> list[Json]:
    """The line of perfect agreement, and the error that such predictions are known to have."""
    made = [draw.upright(100, draw.MUTED, 1)]
    band = facts.prediction.error_band
    if band and against == "measured":
        half = 100 * band["p90"]
        made.append(
            {
                "type": "rect",
                "x0": 100 - half,
                "x1": 100 + half,
                "fillcolor": draw.GREY,
                "opacity": 0.15,
                "line": {"width": 0},
                "layer": "below",
                "y0": 0,
                "y1": 1,
                "yref": "paper",
            }
        )
    return made


def _said(facts: Facts, known: Sequence[tuple[str, Metrics]], names: Sequence[str]) -> str:
    against = known[-1][0]
    worst = max(names, key=lambda name: max(map(abs, _errors(known, name)), default=0.0))
    error = max(_errors(known, worst), key=abs)
    told = f"Furthest from what was {against}: {label(worst)}, {signed(error)}."
    band = facts.prediction.error_band
    if band and against == "measured":
        told += f" The grey band holds nine of ten such predictions (±{band['p90']:.0%})."
    return told
