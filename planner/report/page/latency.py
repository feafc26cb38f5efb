"""What users feel: the share of requests that were answered within a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.core.metrics import RequestRecord, percentile
from planner.core.requirements import MustHave
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Served
from planner.report.tables import duration

COLOURS = {"simulated": draw.BLUE, "measured": draw.ORANGE}
_DASHES = {"simulated": "solid", "measured": "dash"}
_LINES = {"simulated": "━", "measured": "╍"}
_SHARES = [0, 25, 50, 75, 95]
_PERCENT = [f"{share} %" for share in _SHARES]
_RIM = {"color": draw.PAPER, "width": 1.5}
_MOST_POINTS = 400
_STATISTICS = (("median", 50.0), ("p95", 95.0), ("p99", 99.0))
_MARKED = 2
"""How many of the statistics are marked in the picture; all are in the table."""

Found = Sequence[tuple[str, list[float]]]
"""Who, and the latencies (s) in rising order."""


def latency_figures(served: Sequence[Served], must: MustHave) -> Iterator[Figure]:
    """A distribution of the time to first token and one of the time per further token."""
    for name, title in (("ttft", "time to first token"), ("tpot", "time per output token")):
        found = [(one.name, sorted(_values(one.records, name))) for one in served]
        found = [(who, values_s) for who, values_s in found if values_s]
        if found:
            shown = {one.name: one.shown for one in served}[found[-1][0]]
            yield _spread(name, title, found, must, shown)


def _values(records: Sequence[RequestRecord], name: str) -> Iterator[float]:
    for record in records:
        if record.status == "completed" and record.token_s:
            value = getattr(record, f"{name}_s")
            if value is not None:
                yield value


def _spread(name: str, title: str, found: Found, must: MustHave, shown: str) -> Figure:
    """Distribution functions with median and p95 marked, and the bounds that are asked.

    ``shown`` says what the last of them is of.
    """
    longest_s = max(values_s[-1] for _, values_s in found)
    scale, unit = (1.0, "s") if longest_s >= 2 else (1e3, "ms")
    data = [trace for who, values_s in found for trace in _traces(who, values_s, scale, unit)]
    notes = [
        _mark(f"{label} {_digits(scale * at_s)} {unit}", scale * at_s, share, scale * longest_s)
        for label, at_s, share in _statistics(found[-1][1])[:_MARKED]
    ]
    bounds_s = {
        statistic: bound_s
        for statistic in ("mean", "p95", "p99")
        if (bound_s := getattr(must, f"{statistic}_{name}_s", None)) is not None
    }
    near_s = {statistic: s for statistic, s in bounds_s.items() if s <= 2 * longest_s}
    for statistic, bound_s in near_s.items():
        near_end = bound_s < 0.4 * max([longest_s, *near_s.values()])
        notes.append(_asked(f"asked: {statistic} {duration(bound_s)}", scale * bound_s, near_end))
    rows = [
        (who, label, duration(at_s))
        for who, values_s in found
        for label, at_s, _ in _statistics(values_s)
    ]
    rows += [
        ("asked", which, f"at most {duration(bound_s)}") for which, bound_s in bounds_s.items()
    ]
    return Figure(
        name,
        _said(title, found[-1][1], shown),
        data,
        draw.layout(
            270,
            margin={"l": 4, "r": 14, "t": 8, "b": 4},
            xaxis=draw.axis(
                f"{title}, {unit}", range=[0, 1.08 * scale * max([longest_s, *near_s.values()])]
            ),
            yaxis=draw.axis("", range=[0, 104], tickvals=_SHARES, ticktext=_PERCENT),
            shapes=[draw.upright(scale * s, draw.MUTED, 1.5, dash="dot") for s in near_s.values()],
            annotations=notes,
        ),
        ("requests", "statistic", title),
        tuple(rows),
        tuple((_LINES[who], COLOURS[who], who) for who, _ in found),
    )


def _statistics(values_s: list[float]) -> list[tuple[str, float, float]]:
    return [(label, percentile(values_s, share), share) for label, share in _STATISTICS]


def _traces(who: str, values_s: list[float], scale: float, unit: str) -> Iterator[Json]:
    """The distribution function and the marks on it."""
    xs, ys = _steps(values_s)
    yield {
        "type": "scatter",
        "mode": "lines",
        "name": who,
        "x": [scale * x for x in xs],
        "y": ys,
        "line": {"color": COLOURS[who], "width": 2.5, "dash": _DASHES[who], "shape": "hv"},
        "hovertemplate": f"%{{y:.0f}} % within %{{x:.3~g}} {unit}<extra>{who}</extra>",
    }
    marks = _statistics(values_s)[:_MARKED]
    yield {
        "type": "scatter",
        "mode": "markers",
        "name": who,
        "x": [scale * at_s for _, at_s, _ in marks],
        "y": [share for _, _, share in marks],
        "marker": {"size": 9, "color": COLOURS[who], "line": _RIM},
        "hoverinfo": "skip",
    }


def _mark(text: str, x: float, share: float, end: float) -> Json:
    """A statistic beside its mark, on the side where there is room."""
    if x < 0.6 * end:
        return draw.note(text, x, share, xanchor="left", xshift=9, yanchor="top", yshift=-1)
    return draw.note(text, x, share, xanchor="right", xshift=-9, yanchor="bottom", yshift=1)


def _asked(text: str, x: float, right: bool) -> Json:
    font = {"size": 11, "color": draw.MUTED}
    side = {"xanchor": "left", "xshift": 4} if right else {"xanchor": "right", "xshift": -4}
    return draw.note(text, x, 2, yanchor="bottom", font=font, **side)


def _steps(found: list[float]) -> tuple[list[float], list[float]]:
    """Points of the distribution function (percent), thinned to what a screen can show."""
    count = len(found)
    stride = max(1, count // _MOST_POINTS)
    kept = sorted({*range(0, count, stride), count - 1})
    return [found[0], *(found[i] for i in kept)], [0.0, *(100 * (i + 1) / count for i in kept)]


def _digits(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _said(title: str, values_s: list[float], who: str) -> str:
    half, most = duration(percentile(values_s, 50)), duration(percentile(values_s, 95))
    return f"{title.capitalize()}, {who}: half within {half}, 95 % within {most}."
