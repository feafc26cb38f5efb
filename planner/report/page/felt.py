"""What users feel: how latencies are spread, and how the requests went over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from planner.core.metrics import RequestRecord, percentile
from planner.core.plan import Plan
from planner.core.requirements import MustHave
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Served
from planner.report.tables import duration
from planner.sim.result import Recovery

_COLOURS = {"simulated": draw.BLUE, "measured": draw.ORANGE}
_DASHES = {"simulated": "solid", "measured": "dash"}
_LINES = {"simulated": "━", "measured": "╍"}
_SHARES = [0, 25, 50, 75, 95]
_PERCENT = [f"{share} %" for share in _SHARES]
_RIM = {"color": draw.PAPER, "width": 1.5}
_MOST_POINTS = 400
_WINDOWS = 60
_STATISTICS = (("median", 50.0), ("p95", 95.0), ("p99", 99.0))


def latency_figures(served: Sequence[Served], must: MustHave) -> Iterator[Figure]:
    """Share of the requests that were answered within a time: first token, further tokens."""
    for name, title in (("ttft", "time to first token"), ("tpot", "time per output token")):
        values = [(one.name, sorted(_values(one.records, name))) for one in served]
        values = [(who, found) for who, found in values if found]
        if values:
            yield _spread(name, title, values, must)


def _values(records: Sequence[RequestRecord], name: str) -> Iterator[float]:
    for record in records:
        if record.status == "completed" and record.token_s:
            value = getattr(record, f"{name}_s")
            if value is not None:
                yield value


def _spread(
    name: str, title: str, values: Sequence[tuple[str, list[float]]], must: MustHave
) -> Figure:
    """Distribution functions with median and p95 marked, and the bounds that are asked."""
    data: list[Json] = []
    notes: list[Json] = []
    rows: list[tuple[str, str, str]] = []
    longest_s = max(found[-1] for _, found in values)
    scale, unit = (1.0, "s") if longest_s >= 2 else (1e3, "ms")
    for who, found in values:
        xs, ys = _steps(found)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": who,
                "x": [scale * x for x in xs],
                "y": ys,
                "line": {"color": _COLOURS[who], "width": 2.5, "dash": _DASHES[who], "shape": "hv"},
                "hovertemplate": f"%{{y:.0f}} % within %{{x:.3~g}} {unit}<extra>{who}</extra>",
            }
        )
        marks = [(label, scale * percentile(found, share), share) for label, share in _STATISTICS]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": who,
                "showlegend": False,
                "x": [x for _, x, _ in marks[:2]],
                "y": [share for _, _, share in marks[:2]],
                "marker": {"size": 9, "color": _COLOURS[who], "line": _RIM},
                "hoverinfo": "skip",
            }
        )
        if who == values[-1][0]:
            notes += [
                _mark(f"{label} {_digits(x)} {unit}", x, y, scale * longest_s)
                for label, x, y in marks[:2]
            ]
        rows += [(who, label, duration(x / scale)) for label, x, _ in marks]
    shapes, ends = [], [scale * longest_s]
    for statistic in ("mean", "p95", "p99"):
        bound_s = getattr(must, f"{statistic}_{name}_s", None)
        if bound_s is None:
            continue
        if bound_s <= 2 * longest_s:
            shapes.append(_bound(scale * bound_s))
            ends.append(scale * bound_s)
            notes.append(
                draw.note(
                    f"asked: {statistic} {duration(bound_s)}",
                    scale * bound_s,
                    2,
                    xanchor="right",
                    xshift=-4,
                    yanchor="bottom",
                    font={"size": 11, "color": draw.MUTED},
                )
            )
        rows.append(("asked", statistic, f"at most {duration(bound_s)}"))
    return Figure(
        name,
        _said(title, values),
        data,
        draw.layout(
            270,
            margin={"l": 4, "r": 14, "t": 8, "b": 4},
            xaxis=draw.axis(f"{title}, {unit}", range=[0, 1.08 * max(ends)]),
            yaxis=draw.axis("", range=[0, 104], tickvals=_SHARES, ticktext=_PERCENT),
            shapes=shapes,
            annotations=notes,
        ),
        ("requests", "statistic", title),
        tuple(rows),
        tuple((_LINES[who], _COLOURS[who], who) for who, _ in values),
    )


def _mark(text: str, x: float, share: float, end: float) -> Json:
    """A statistic beside its mark, on the side where there is room."""
    if x < 0.6 * end:
        return draw.note(text, x, share, xanchor="left", xshift=9, yanchor="top", yshift=-1)
    return draw.note(text, x, share, xanchor="right", xshift=-9, yanchor="bottom", yshift=1)


def _steps(found: list[float]) -> tuple[list[float], list[float]]:
    """Points of the distribution function (percent), thinned to what a screen can show."""
    count = len(found)
    stride = max(1, count // _MOST_POINTS)
    kept = sorted({*range(0, count, stride), count - 1})
    return [found[0], *(found[i] for i in kept)], [0.0, *(100 * (i + 1) / count for i in kept)]


def _bound(x: float) -> Json:
    line = {"color": draw.MUTED, "width": 1.5, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def _digits(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _said(title: str, values: Sequence[tuple[str, list[float]]]) -> str:
    who, found = values[-1]
    half, most = duration(percentile(found, 50)), duration(percentile(found, 95))
    return f"{title.capitalize()}, {who}: half within {half}, 95 % within {most}."


def timeline_figure(served: Served, plan: Plan) -> Figure | None:
    """Tokens per second over time, and what failed or was recovered; None without a token."""
    tokens = sorted(time_s for record in served.records for time_s in _token_times(record))
    if not tokens:
        return None
    end_s = max([tokens[-1], *(one.recovered_s for one in served.recoveries)])
    width_s = _round_up(end_s / _WINDOWS)
    counts = [0] * (math.floor(end_s / width_s) + 1)
    for time_s in tokens:
        counts[math.floor(time_s / width_s)] += 1
    if len(counts) > 1:
        counts.pop()  # its window was cut short
    rates = [count / width_s for count in counts]
    failed = [record for record in served.records if record.status == "failed"]
    data: list[Json] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "output tokens per second",
            "x": [width_s * index for index in range(len(rates))],
            "y": rates,
            "line": {"color": _COLOURS[served.name], "width": 1.5, "shape": "hv"},
            "fill": "tozeroy",
            "fillcolor": "rgba(0,114,178,0.15)",
            "hovertemplate": "%{y:.3~g} tokens/s at %{x:.4~g} s<extra></extra>",
        }
    ]
    if failed:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "request that failed",
                "x": [max([one.arrival_s, *one.token_s[-1:]]) for one in failed],
                "y": [0] * len(failed),
                "marker": {"symbol": "x", "size": 9, "color": draw.RED},
                "hovertext": [draw.words(record.reason, 40) for record in failed],
                "hoverinfo": "text",
            }
        )
    shapes, notes = _outages(served, plan)
    return Figure(
        f"timeline-{served.name}",
        _course(served, failed, end_s),
        data,
        draw.layout(
            250,
            margin={"l": 4, "r": 8, "t": 34 if notes else 8, "b": 4},
            xaxis=draw.axis("seconds since the first request", range=[0, end_s]),
            yaxis=draw.axis("", ticksuffix=" tok/s", range=[0, 1.15 * max(rates)]),
            shapes=shapes,
            annotations=notes,
        ),
        ("lost", "node that took over", "noticed after", "works again after"),
        tuple(
            (
                f"{one.lost_s:.4g} s",
                one.node,
                duration(one.detected_s - one.lost_s),
                duration(one.recovered_s - one.lost_s),
            )
            for one in served.recoveries
        ),
        _meaning(served, bool(failed)),
    )


def _meaning(served: Served, failed: bool) -> tuple[tuple[str, str, str], ...]:
    made = [("▅", _COLOURS[served.name], f"output tokens per second, {served.name}")]
    if served.recoveries:
        made.append(("█", "#D55E0055", "a stage without its node"))
    if failed:
        made.append(("✕", draw.RED, "request that failed"))
    return tuple(made)


def _token_times(record: RequestRecord) -> Iterator[float]:
    """When its tokens came, evenly spread where only the first and the last are known."""
    if len(record.token_s) == record.output_tokens or len(record.token_s) < 2:
        yield from record.token_s
        return
    first_s, last_s = record.token_s[0], record.token_s[-1]
    gap_s = (last_s - first_s) / (record.output_tokens - 1)
    yield from (first_s + gap_s * index for index in range(record.output_tokens))


def _outages(served: Served, plan: Plan) -> tuple[list[Json], list[Json]]:
    """A band from the loss of a stage to its recovery; the name where there is room for it."""
    shapes: list[Json] = []
    notes: list[Json] = []
    for one in served.recoveries:
        shapes.append(
            {
                "type": "rect",
                "x0": one.lost_s,
                "x1": one.recovered_s,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "fillcolor": draw.RED,
                "opacity": 0.22,
                "line": {"width": 1, "color": draw.RED},
            }
        )
    gaps = [later.lost_s - one.lost_s for one, later in pairwise(served.recoveries)]
    if len(served.recoveries) <= 4 and all(gap > 0 for gap in gaps):
        notes = [
            draw.note(
                _back(one, plan),
                one.lost_s,
                1,
                yref="paper",
                xanchor="left",
                yanchor="bottom",
                font={"size": 11, "color": draw.INK},
                yshift=14 * (number % 2),
            )
            for number, one in enumerate(served.recoveries)
        ]
    return shapes, notes


def _back(one: Recovery, plan: Plan) -> str:
    same = plan.pipelines[one.pipeline].nodes[one.stage] == one.node
    return f"{draw.words(one.node)} {'comes back' if same else 'takes over'}"


def _round_up(seconds: float) -> float:
    """The next of 1, 2, 5, 10, ... so that windows have a length one can name."""
    if seconds <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(seconds))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= seconds)


def _course(served: Served, failed: Sequence[RequestRecord], end_s: float) -> str:
    lost = len(served.recoveries)
    told = f"{len(served.records)} requests in {duration(end_s)}, {served.name}: "
    told += f"{len(failed)} failed" if failed else "none failed"
    return f"{told}, {f'{lost} losses were recovered' if lost else 'no node was lost'}."
