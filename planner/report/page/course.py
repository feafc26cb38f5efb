"""How the requests went over time: tokens per second, and what failed or was recovered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from planner.core.metrics import RequestRecord
from planner.core.plan import Plan
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Served
from planner.report.page.latency import COLOURS
from planner.report.tables import duration
from planner.sim.result import Recovery

_WINDOWS = 60
_MOST_NAMED = 4
_FILLS = {"simulated": "rgba(0,114,178,0.15)", "measured": "rgba(230,159,0,0.18)"}


def timeline_figure(served: Served, plan: Plan) -> Figure | None:
    """Tokens per second over time, losses and failures; None without a token."""
    tokens = sorted(time_s for record in served.records for time_s in _token_times(record))
    if not tokens:
        return None
    end_s = max([tokens[-1], *(one.recovered_s for one in served.recoveries)])
    failed = [record for record in served.records if record.status == "failed"]
    rates = _rates(tokens, end_s)
    data = [_area(served.name, rates)]
    if failed:
        data.append(_failures(failed))
    names = _names(served, plan)
    return Figure(
        f"timeline-{served.name}",
        _course(served, failed, end_s),
        data,
        draw.layout(
            250,
            margin={"l": 4, "r": 8, "t": 34 if names else 8, "b": 4},
            xaxis=draw.axis("seconds since the first request", range=[0, end_s]),
            yaxis=draw.axis(
                "", ticksuffix=" tok/s", range=[0, 1.15 * max(rate for _, rate in rates)]
            ),
            shapes=[_outage(one) for one in served.recoveries],
            annotations=names,
        ),
        ("lost", "node", "noticed after", "works again after"),
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


def _token_times(record: RequestRecord) -> Iterator[float]:
    """When its tokens came, evenly spread where only the first and the last are known."""
    if len(record.token_s) == record.output_tokens or len(record.token_s) < 2:
        yield from record.token_s
        return
    first_s, last_s = record.token_s[0], record.token_s[-1]
    gap_s = (last_s - first_s) / (record.output_tokens - 1)
    yield from (first_s + gap_s * index for index in range(record.output_tokens))


def _rates(tokens: Sequence[float], end_s: float) -> list[tuple[float, float]]:
    """Begin of each window (s) and tokens per second in it."""
    width_s = _round_up(end_s / _WINDOWS)
    counts = [0] * (math.floor(end_s / width_s) + 1)
    for time_s in tokens:
        counts[math.floor(time_s / width_s)] += 1
    if len(counts) > 1:
        counts.pop()  # its window was cut short
    return [(width_s * index, count / width_s) for index, count in enumerate(counts)]


def _round_up(seconds: float) -> float:
    """The next of 1, 2, 5, 10, ... so that windows have a length one can name."""
    if seconds <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(seconds))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= seconds)


def _area(who: str, rates: Sequence[tuple[float, float]]) -> Json:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "output tokens per second",
        "x": [begin_s for begin_s, _ in rates],
        "y": [rate for _, rate in rates],
        "line": {"color": COLOURS[who], "width": 1.5, "shape": "hv"},
        "fill": "tozeroy",
        "fillcolor": _FILLS[who],
        "hovertemplate": "%{y:.3~g} tokens/s at %{x:.4~g} s<extra></extra>",
    }


def _failures(failed: Sequence[RequestRecord]) -> Json:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "request that failed",
        "x": [max([one.arrival_s, *one.token_s[-1:]]) for one in failed],
        "y": [0] * len(failed),
        "marker": {"symbol": "x", "size": 9, "color": draw.RED},
        "hovertext": [draw.words(one.reason, 40) for one in failed],
        "hoverinfo": "text",
    }


def _outage(one: Recovery) -> Json:
    """A band from the loss of a stage to its recovery."""
    return {
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


def _names(served: Served, plan: Plan) -> list[Json]:
    """Who comes back or takes over, where there is room to say it."""
    gaps = [later.lost_s - one.lost_s for one, later in pairwise(served.recoveries)]
    if len(served.recoveries) > _MOST_NAMED or not all(gap > 0 for gap in gaps):
        return []
    made = []
    for number, one in enumerate(served.recoveries):
        same = plan.pipelines[one.pipeline].nodes[one.stage] == one.node
        text = f"{draw.words(one.node)} {'comes back' if same else 'takes over'}"
        place = {"yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        font = {"size": 11, "color": draw.INK}
        made.append(draw.note(text, one.lost_s, 1, font=font, yshift=14 * (number % 2), **place))
    return made


def _meaning(served: Served, failed: bool) -> tuple[tuple[str, str, str], ...]:
    made = [("▅", COLOURS[served.name], f"output tokens per second, {served.name}")]
    if served.recoveries:
        made.append(("█", "#D55E0055", "a stage without its node"))
    if failed:
        made.append(("✕", draw.RED, "request that failed"))
    return tuple(made)


def losses(count: int) -> str:
    """So many losses, as the subject of a sentence in the past."""
    return "1 loss was" if count == 1 else f"{count} losses were"


def _course(served: Served, failed: Sequence[RequestRecord], end_s: float) -> str:
    lost = len(served.recoveries)
    told = f"{len(served.records)} requests in {duration(end_s)}, {served.shown}: "
    told += f"{len(failed)} failed" if failed else "none failed"
    return f"{told}, {f'{losses(lost)} recovered' if lost else 'no node was lost'}."
