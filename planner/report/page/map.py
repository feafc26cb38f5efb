"""The map: regions as bands, nodes filled by memory in use, ways between them by utilisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from planner.core.cost import Batch, traverse
from planner.core.plan import Plan
from planner.core.prediction import StagePrediction
from planner.core.problem import Problem
from planner.report.page import draw
from planner.report.page.draw import Figure, Json
from planner.report.page.facts import Facts
from planner.report.page.ways import HALF, TALL, Box, Hop, arrow
from planner.report.tables import GIB, duration

_PER_ROW = 3
_ROW = 1.2
_HEAD = 0.5
_UNIT_PX = 84
_SHOWN_IDLE = 3


_MOST_REGIONS = 100
"""Nodes whose regions get a band even if nothing in them is used."""


@dataclass(frozen=True, slots=True)
class _Band:
    """Where a region is drawn."""

    region: str
    left: int
    columns: int
    top: float
    bottom: float


def map_figure(facts: Facts) -> Figure:
    """Every node of the plan, its standbys, the coordinator, and a few of those left idle."""
    problem, plan = facts.problem, facts.plan
    shown = _shown(problem, plan)
    boxes, bands, height = _places(problem, shown)
    stages = {one.node: one for p in facts.prediction.pipelines for one in p.stages}
    hops = list(_hops(facts))
    known = facts.simulated or facts.measured
    shapes, notes = [], []
    for band in bands:
        shapes.append(_band(band))
        notes.append(_title(band, _hidden(problem, shown, band.region)))
    ways = {(hop.src, hop.dst) for hop in hops}
    arrows = [arrow(hop, boxes, both=(hop.dst, hop.src) in ways) for hop in hops]
    notes += [way for way, _ in arrows] + [badge for _, badge in arrows]
    for node, box in boxes.items():
        used = node in plan.nodes or node == problem.cluster.coordinator
        shapes += _node(box, stages.get(node), used)
        notes.append(_name(problem, plan, node, box, stages.get(node)))
    busy = dict(known.node_busy) if known else {}
    return Figure(
        "map",
        _said(facts, hops),
        [_points(problem, boxes, stages, busy)],
        draw.layout(
            round(height * _UNIT_PX),
            xaxis=draw.HIDDEN | {"range": [-0.52, _PER_ROW - 0.48]},
            margin={"l": 0, "r": 0, "t": 0, "b": 0},
            yaxis=draw.HIDDEN | {"range": [height, -0.02]},
            shapes=shapes,
            annotations=notes,
        ),
        ("hop", "way", "latency", "bandwidth", "time per token", "busy"),
        tuple(_row(hop) for hop in hops),
        (
            ("▄", draw.SKY, "memory in use"),
            ("→", draw.ACCENT, "way of a token, thick where busy"),
        ),
    )


def _shown(problem: Problem, plan: Plan) -> list[str]:
    """Nodes that are drawn, in the order in which a token comes by; idle ones last."""
    order = [problem.cluster.coordinator, *plan.nodes, *(one.node for one in plan.standbys)]
    idle = [node.id for node in problem.cluster.workers if node.id not in order]
    return list(dict.fromkeys([*order, *(idle if len(idle) <= _SHOWN_IDLE else [])]))


def _hidden(problem: Problem, shown: Sequence[str], region: str) -> int:
    return sum(n.region == region and n.id not in shown for n in problem.cluster.workers)


def _places(problem: Problem, shown: Sequence[str]) -> tuple[dict[str, Box], list[_Band], float]:
    """Boxes by node, bands, and the height of all; small regions stand beside each other."""
    regions: dict[str, list[str]] = {}
    for node in shown:
        regions.setdefault(problem.cluster.node(node).region, []).append(node)
    for other in problem.cluster.workers[:_MOST_REGIONS]:
        regions.setdefault(other.region, [])
    boxes: dict[str, Box] = {}
    bands: list[_Band] = []
    top = 0.0
    for row in _packed(regions):
        lines = max(-(-len(regions[region]) // columns) for region, columns in row)
        inside = _ROW * lines - (_ROW - TALL) + 0.16 if lines else -0.1
        left = 0
        for region, columns in row:
            bands.append(_Band(region, left, columns, top, top + _HEAD + inside))
            for index, node in enumerate(regions[region]):
                line, column = divmod(index, columns)
                boxes[node] = Box(left + column, top + _HEAD + _ROW * line + TALL / 2)
            left += columns
        top += _HEAD + inside + (0.22 if lines else 0.08)
    return boxes, bands, top


def _packed(regions: dict[str, list[str]]) -> list[list[tuple[str, int]]]:
    """Regions with their columns, in rows; those without a node in rows of their own."""
    rows: list[list[tuple[str, int]]] = []
    room, empty = 0, False
    for region, nodes in sorted(regions.items(), key=lambda one: not one[1]):
        columns = min(_PER_ROW, max(1, len(nodes)))
        if columns > room or empty != (not nodes):
            rows.append([])
            room, empty = _PER_ROW, not nodes
        rows[-1].append((region, columns))
        room -= columns
    return rows


def _title(band: _Band, idle: int) -> Json:
    more = f" · {idle} idle" if idle else ""
    return draw.note(
        f"<b>{draw.words(band.region)}</b>{more}",
        band.left - 0.44,
        band.top + 0.1,
        xanchor="left",
        yanchor="top",
        font={"size": 12, "color": draw.MUTED},
    )


def _band(band: _Band) -> Json:
    return {
        "type": "rect",
        "x0": band.left - 0.48,
        "x1": band.left + band.columns - 0.52,
        "y0": band.top,
        "y1": band.bottom,
        "fillcolor": draw.GRID,
        "opacity": 0.35,
        "line": {"width": 0},
        "layer": "below",
    }


def _node(box: Box, stage: StagePrediction | None, used: bool) -> list[Json]:
    """A frame, filled from below as far as memory is used."""
    left, right = box.x - HALF, box.x + HALF
    top, bottom = box.y - TALL / 2, box.y + TALL / 2
    line = {"color": draw.INK if used else draw.MUTED, "width": 1.5 if used else 1}
    frame = {"type": "rect", "x0": left, "x1": right, "y0": top, "y1": bottom, "layer": "below"}
    made: list[Json] = [frame | {"fillcolor": draw.PAPER, "line": {"width": 0}}]
    if stage is not None:
        filled = bottom - TALL * min(1.0, _fill(stage))
        fill = {"y0": filled, "fillcolor": draw.SKY, "opacity": 0.45, "line": {"width": 0}}
        made.append(frame | fill)
    return [*made, frame | {"line": line if used else line | {"dash": "dot"}}]


def _fill(stage: StagePrediction) -> float:
    used = sum(stage.memory_bytes.values())
    return used / stage.capacity_bytes if stage.capacity_bytes else 0.0


def _name(problem: Problem, plan: Plan, node: str, box: Box, stage: StagePrediction | None) -> Json:
    known = problem.cluster.node(node)
    lines = [f"<b>{draw.words(node)}</b>"]
    if known.device:
        times = f"{known.count} × " if known.count > 1 else ""
        lines.append(f"{times}{draw.words(known.device)}")
    if stage is not None:
        lines += [f"layers {stage.start}-{stage.stop - 1}", f"{_fill(stage):.0%} full"]
    elif any(one.node == node for one in plan.standbys):
        lines.append("standby")
    elif node == problem.cluster.coordinator:
        lines.append("takes requests")
    else:
        lines.append("not used")
    return draw.note("<br>".join(lines), box.x, box.y, font={"size": 11, "color": draw.INK})


def _hops(facts: Facts) -> Iterable[Hop]:
    """The ways of a decode step in order, each once."""
    problem, plan = facts.problem, facts.plan
    known = facts.simulated or facts.measured
    number, seen = 0, set()
    for pipeline, predicted in zip(plan.pipelines, facts.prediction.pipelines, strict=True):
        batch = Batch.decode(max(1, round(predicted.batch)), 0)
        way = traverse(problem, pipeline, batch)
        route = [(hop.src, hop.dst) for hop in predicted.hops]
        for (src, dst), transfer in zip(route, way.transfers, strict=True):
            if src == dst or (src, dst) in seen:
                continue
            seen.add((src, dst))
            number += 1
            link = problem.cluster.link(src, dst)
            assert link is not None
            busy = known.link_busy.get(f"{src} -> {dst}") if known else None
            yield Hop(
                number, src, dst, transfer.total_s, link.one_way_latency_s, link.bytes_per_s, busy
            )


def _points(
    problem: Problem,
    boxes: dict[str, Box],
    stages: dict[str, StagePrediction],
    busy: dict[str, float],
) -> Json:
    """What a pointer finds over a node."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [box.x for box in boxes.values()],
        "y": [box.y for box in boxes.values()],
        "marker": {"size": 40, "opacity": 0},
        "hovertext": [_hover(problem, node, stages.get(node), busy.get(node)) for node in boxes],
        "hoverinfo": "text",
    }


def _hover(problem: Problem, node: str, stage: StagePrediction | None, busy: float | None) -> str:
    lines = [f"<b>{draw.words(node)}</b>"]
    if stage is not None:
        for use, used_bytes in stage.memory_bytes.items():
            lines.append(f"{use}: {used_bytes / GIB:.3g} GiB")
        lines.append(f"of {stage.capacity_bytes / GIB:.3g} GiB")
    if busy is not None:
        lines.append(f"computes {busy:.0%} of the time")
    known = problem.cluster.node(node)
    if known.usd_per_hour:
        lines.append(f"{known.usd_per_hour:.4g} USD/h")
    if known.churn:
        lines.append(f"comes and goes: {draw.words(known.churn)}")
    return "<br>".join(lines)


def _row(hop: Hop) -> tuple[str, ...]:
    return (
        str(hop.number),
        f"{hop.src} → {hop.dst}",
        duration(hop.latency_s),
        f"{hop.bytes_per_s * 8e-6:,.3g} Mbit/s",
        duration(hop.decode_s),
        "-" if hop.busy is None else f"{hop.busy:.0%}",
    )


def _said(facts: Facts, hops: Sequence[Hop]) -> str:
    nodes = len(facts.plan.nodes)
    regions = len({facts.problem.cluster.node(node).region for node in facts.plan.nodes})
    told = f"{nodes} node{'s' * (nodes != 1)} in {regions} region{'s' * (regions != 1)}"
    if not hops:
        return f"{told}; nothing crosses a network."
    slowest = max(hops, key=lambda hop: hop.decode_s)
    return (
        f"{told}; the slowest way of a token is {slowest.number}, {slowest.src} → {slowest.dst}, "
        f"{duration(slowest.decode_s)}."
    )
