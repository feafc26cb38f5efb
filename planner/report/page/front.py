"""The Pareto front: cost against speed of everything that could serve the requests."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.metrics import Metrics
from planner.core.words import figure
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Facts

_NAME_TALL, _NAME_WIDE = 0.09, 0.5
"""Shares of the picture that a name covers on a narrow screen."""
_SAME_PRICE = 1.12
"""Ratio of prices whose lines are told as one."""
_COST, _SPEED, _RATE = "usd_per_million_output_tokens", "mean_tpot_ms", "output_throughput"


@dataclass(frozen=True, slots=True)
class _Point:
    name: str
    kind: str
    x: float
    y: float
    note: str = ""


def front_figure(facts: Facts) -> Figure | None:
    """Points of plans and alternatives; None where there is nothing to compare.

    Without any cost the rate of output tokens takes its place.
    """
    axis = _COST if any(_known(one, _COST) for one in _all(facts)) else _RATE
    points = _points(facts, axis)
    if not points or len(points) + len(facts.rivals) < 2:
        return None
    best = _front(points, axis)
    log = axis == _COST and min(point.x for point in points) > 0
    apis = [
        (rival, price)
        for rival in facts.rivals
        if rival.kind == "api" and axis == _COST and (price := getattr(rival.metrics, _COST))
    ]
    xs = [point.x for point in points] + [price for _, price in apis]
    shapes: list[Json] = []
    notes: list[Json] = []
    top = max(point.y for point in points) * 1.25
    told = 0.0
    for rival, price in sorted(apis, key=lambda one: one[1]):
        # an API is a line: its price is known, its speed is not
        shapes.append(draw.upright(price, draw.ORANGE, 1.5, dash="dash"))
        if price > told * _SAME_PRICE:
            near = sum(1 for _, other in apis if price < other <= price * _SAME_PRICE)
            name = rival.name + (f" and {near} more" if near else "")
            notes.append(_api_note(name, price, log, (min(xs), max(xs)), len(notes)))
            told = price
    title = "USD per million output tokens" if axis == _COST else "output tokens per second"
    return Figure(
        "front",
        _caption(points, best, axis),
        [_steps(best), *_markers(points, best)],
        draw.layout(
            400,
            margin={"l": 4, "r": 12, "t": 8, "b": 4},
            xaxis=draw.axis(
                title, type="log" if log else "linear", range=_range(xs, log), **_ticks(xs, log)
            ),
            yaxis=draw.axis("", range=[0, top], ticksuffix=" ms"),
            shapes=shapes,
            annotations=notes,
        ),
        ("option", title, "time per output token"),
        tuple((one.name, figure(axis, one.x), figure(_SPEED, one.y)) for one in points)
        + tuple((rival.name, figure(axis, price), "not known") for rival, price in apis),
        _meaning(points, bool(apis), len(best) > 1),
    )


def _meaning(points: list[_Point], apis: bool, stepped: bool) -> tuple[tuple[str, str, str], ...]:
    kinds = {point.kind for point in points}
    made = [
        (_GLYPHS[kind], colour, name)
        for kind, (name, _, _, colour) in _KINDS.items()
        if kind in kinds
    ]
    if apis:
        made.append(("┆", draw.ORANGE, "API, speed not known"))
    if stepped:
        made.append(("┈", draw.MUTED, "nothing beats these in both"))
    return tuple(made)


def _all(facts: Facts) -> list[Metrics]:
    others = [rival.metrics for rival in facts.rivals]
    return [facts.best_known, *(one.metrics for one in facts.reasons.considered), *others]


def _known(metrics: Metrics, axis: str) -> bool:
    return bool(getattr(metrics, axis)) and metrics.mean_tpot_ms is not None


def _points(facts: Facts, axis: str) -> list[_Point]:
    """The chosen plan first; the others as they were predicted or simulated."""
    made = []
    chosen = next((one for one in facts.reasons.considered if one.chosen), None)
    metrics = chosen.metrics if chosen else facts.prediction.metrics
    if _known(metrics, axis):
        name = chosen.name if chosen else facts.problem.name
        made.append(_point(name, "chosen", metrics, axis, "chosen"))
    for one in facts.reasons.considered:
        if not one.chosen and _known(one.metrics, axis):
            made.append(_point(one.name, "plan", one.metrics, axis, one.trade))
    for rival in facts.rivals:
        if rival.kind != "api" and _known(rival.metrics, axis):
            note = "misses a must-have" if rival.missed else ""
            made.append(_point(rival.name, "rival", rival.metrics, axis, note))
    return made


def _point(name: str, kind: str, metrics: Metrics, axis: str, note: str) -> _Point:
    return _Point(name, kind, getattr(metrics, axis), metrics.mean_tpot_ms or 0.0, note)


def _front(points: list[_Point], axis: str) -> list[_Point]:
    """Points that no other one beats in both, from left to right."""
    sign = 1.0 if axis == _COST else -1.0
    kept: list[_Point] = []
    for point in sorted(points, key=lambda one: (sign * one.x, one.y)):
        if not kept or point.y < kept[-1].y:
            kept.append(point)
    return sorted(kept, key=lambda one: one.x)


def _steps(best: list[_Point]) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "no option is better in both",
        "x": [point.x for point in best],
        "y": [point.y for point in best],
        "line": {"color": draw.MUTED, "width": 1.5, "dash": "dot", "shape": "hv"},
        "hoverinfo": "skip",
    }


_KINDS = {
    "chosen": ("chosen plan", "star", 17, draw.ACCENT),
    "plan": ("other plans for these nodes", "circle", 11, draw.BLUE),
    "rival": ("alternatives", "diamond", 12, draw.ORANGE),
}
_GLYPHS = {"chosen": "★", "plan": "●", "rival": "◆"}


def _markers(points: list[_Point], best: list[_Point]) -> list[Json]:
    """A trace for each kind; what is on the front, chosen or an alternative has its name on."""
    made: list[Json] = []
    shown = _labelled(points, best)
    middle = (min(p.x for p in points) * max(p.x for p in points)) ** 0.5
    for kind, (name, symbol, size, colour) in _KINDS.items():
        mine = [point for point in points if point.kind == kind]
        if not mine:
            continue
        labelled = [p in shown for p in mine]
        made.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": name,
                "x": [p.x for p in mine],
                "y": [p.y for p in mine],
                "text": [_tag(p) if on else "" for p, on in zip(mine, labelled, strict=True)],
                "textposition": ["top right" if p.x <= middle else "top left" for p in mine],
                "textfont": {"size": 12, "color": draw.INK},
                "cliponaxis": False,
                "marker": {
                    "symbol": symbol,
                    "size": size,
                    "color": colour,
                    "line": {"color": draw.PAPER, "width": 1},
                },
                "hovertext": [
                    f"<b>{draw.words(p.name)}</b><br>{figure(_SPEED, p.y)} per token<br>"
                    f"{p.x:.3g}<br>{draw.words(p.note, 40)}"
                    for p in mine
                ],
                "hoverinfo": "text",
            }
        )
    return made


def _labelled(points: list[_Point], best: list[_Point]) -> list[_Point]:
    """Points that have their name on: the chosen one, then the front, then what is far enough off.

    The others are told by pointing at them, and in the table.
    """
    wanted = [p for p in points if p.kind == "chosen"]
    wanted += [p for p in best if p not in wanted]
    wanted += [p for p in points if p.kind == "rival" and p not in wanted]
    width = max(p.x for p in points) / max(min(p.x for p in points), 1e-12)
    height = max(p.y for p in points)
    shown: list[_Point] = []
    for point in wanted:
        if all(not _close(point, other, width, height) for other in shown):
            shown.append(point)
    return shown


def _close(a: _Point, b: _Point, width: float, height: float) -> bool:
    """Whether the names of two points would cover each other."""
    ratio = max(a.x, b.x) / max(min(a.x, b.x), 1e-12)
    return abs(a.y - b.y) < _NAME_TALL * height and ratio < max(1.01, width**_NAME_WIDE)


def _tag(point: _Point) -> str:
    return "<b>chosen</b>" if point.kind == "chosen" else draw.words(point.name, 24)


def _api_note(name: str, price: float, log: bool, ends: tuple[float, float], number: int) -> Json:
    from math import log10

    left = price <= (ends[0] * ends[1]) ** 0.5
    return draw.note(
        f"{draw.words(name, 24)}<br>{price:.3g} USD",
        log10(price) if log else price,
        0.99 - 0.16 * number,
        yref="paper",
        xanchor="left" if left else "right",
        xshift=6 if left else -6,
        yanchor="top",
        align="left" if left else "right",
        font={"size": 11, "color": draw.INK},
        bgcolor=draw.PAPER,
        borderpad=0,
    )


def _range(xs: list[float], log: bool) -> list[float]:
    from math import log10

    if not log:
        return [0, 1.15 * max(xs)]
    low, high = log10(min(xs)), log10(max(xs))
    air = max(0.15, 0.12 * (high - low))
    return [low - air, high + air]


def _ticks(xs: list[float], log: bool) -> Json:
    """Round values that a log axis is read by."""
    if not log:
        return {}
    values = [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]
    low, high = min(xs) / 1.6, max(xs) * 1.6
    shown = [value for value in values if low <= value <= high]
    return {"tickvals": shown, "ticktext": [f"{value:g}" for value in shown]}


def _caption(points: list[_Point], best: list[_Point], axis: str) -> str:
    what = "both cheaper and faster" if axis == _COST else "faster both for one and for all users"
    names = ["the chosen plan" if point.kind == "chosen" else point.name for point in best]
    if len(names) == 1:
        return f"Of {len(points)} options, none is {what} than {names[0]}."
    return f"Of {len(points)} options, none is {what} than {'; '.join(names[:-1])} or {names[-1]}."
