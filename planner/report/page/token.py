"""Where the time of one token goes, on a time axis from the coordinator and back to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.core.prediction import PipelinePrediction
from planner.core.problem import Problem
from planner.plan.breakdown import coordinator_parts
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.placement import COORDINATOR_CAUSES, step_name
from planner.report.tables import duration

_CAUSES = {
    "reading weights": (draw.BLUE, ("weights",)),
    "reading the KV cache": (draw.SKY, ("kv",)),
    "computing": (draw.GREEN, ("compute", "attention")),
    "network latency": (draw.ORANGE, ("propagate", "ramp")),
    "sending": (draw.RED, ("serialise",)),
    "software": (draw.GREY, ("overhead", "sync", "relay", "coordinator")),
}
"""Colour of each cause, and the parts of the cost model that it sums up."""


_SMALLEST = 0.005
"""Share of a token below which a place has no row of its own."""


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    parts_s: dict[str, float]

    @property
    def total_s(self) -> float:
        return sum(self.parts_s.values())


def token_figure(problem: Problem, predicted: PipelinePrediction, number: int | None) -> Figure:
    """A waterfall of one decode step; ``number`` tells one replica from the others."""
    every = list(_rows(problem, predicted))
    step_s = sum(row.total_s for row in every)
    rows = [row for row in every if row.total_s >= _SMALLEST * step_s]
    data: list[Json] = []
    notes: list[Json] = []
    began_s = 0.0
    bases: dict[str, list[tuple[int, float, float, str]]] = {cause: [] for cause in _CAUSES}
    for index, row in enumerate(rows):
        share = row.total_s / step_s if step_s else 0.0
        figure = f"{duration(row.total_s)} · {share:.0%}"
        notes += draw.row_label(index, draw.words(row.where), figure)
        for cause, (_, names) in _CAUSES.items():
            seconds = sum(row.parts_s.get(name, 0.0) for name in names)
            if seconds > 0:
                bases[cause].append((index, began_s, seconds, row.where))
                began_s += seconds
    for cause, bars in bases.items():
        if bars:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": cause,
                    "y": [bar[0] for bar in bars],
                    "base": [1e3 * bar[1] for bar in bars],
                    "x": [1e3 * bar[2] for bar in bars],
                    "width": 0.36,
                    "offset": -0.2,
                    "marker": {"color": _CAUSES[cause][0]},
                    "hovertext": [
                        f"{draw.words(bar[3])}<br>{cause}: {duration(bar[2])}" for bar in bars
                    ],
                    "hoverinfo": "text",
                }
            )
    name = "token" if number is None else f"token-{number}"
    worst = max(rows, key=lambda row: row.total_s)
    return Figure(
        name,
        f"A {step_name(problem)} takes {duration(step_s)}; most of it, {duration(worst.total_s)}, "
        f"at {worst.where}.",
        data,
        draw.layout(
            draw.ROW_PX * len(rows) + 56,
            barmode="overlay",
            xaxis=draw.axis("milliseconds since the step began", rangemode="tozero"),
            yaxis=draw.rows_axis(len(rows)),
            annotations=notes,
        ),
        ("place", "cause", "time"),
        tuple((bar[3], cause, duration(bar[2])) for cause, bars in bases.items() for bar in bars),
        tuple(("■", _CAUSES[cause][0], cause) for cause, bars in bases.items() if bars),
    )


def _rows(problem: Problem, predicted: PipelinePrediction) -> Iterator[_Row]:
    """Coordinator, hop, stage, hop, ..., hop, in the order in which a token passes them."""
    own_s = coordinator_parts(problem, predicted.batch, predicted.waits_s)
    for name, seconds in own_s.items():
        if seconds:
            yield _Row(COORDINATOR_CAUSES[name], {"coordinator": seconds})
    for number, hop in enumerate(predicted.hops):
        if hop.src != hop.dst or any(hop.decode_s.values()):
            yield _Row(f"{hop.src} → {hop.dst}", hop.decode_s)
        if number < len(predicted.stages):
            stage = predicted.stages[number]
            where = f"{stage.node}, layers {stage.start} to {stage.stop - 1}"
            yield _Row(where, stage.decode_s)
