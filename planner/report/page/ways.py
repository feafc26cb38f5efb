"""Ways: arrows between the nodes of a map, each with its number."""

from __future__ import annotations

from dataclasses import dataclass

from planner.report.page import draw
from planner.report.page.draw import Json

HALF = 0.42
"""Half the width of a node, where neighbours are 1 apart."""
TALL = 0.86
_APART = 0.14
"""Between the middle and each of two arrows that lead there and back."""
_BESIDE = 0.22
"""From an arrow between neighbours to its number."""
_ASIDE, _EARLY = 0.27, 0.17
"""Where arrows up and down are, and how far along their numbers: clear of a region's title."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node is drawn: the middle of its box."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Hop:
    """A way of a token between two nodes, and how it is used."""

    number: int
    src: str
    dst: str
    decode_s: float
    latency_s: float
    bytes_per_s: float
    busy: float | None


def arrow(hop: Hop, boxes: dict[str, Box], both: bool) -> tuple[Json, Json]:
    """An arrow from box to box, thicker the busier, and its number beside it or at its middle."""
    a, b = boxes[hop.src], boxes[hop.dst]
    (x0, y0), (x1, y1) = _edge(a, b), _edge(b, a)
    shift = 0.0
    if both:
        shift = _APART if (hop.src, hop.dst) < (hop.dst, hop.src) else -_APART
    level, upright = abs(a.y - b.y) < 0.01, abs(a.x - b.x) < 0.01
    if abs(a.x - b.x) < abs(a.y - b.y):
        x0, x1 = (x + shift + _ASIDE * upright for x in (x0, x1))
    else:
        y0, y1 = y0 + shift, y1 + shift
    at_x, at_y = (x0 + x1) / 2, (y0 + y1) / 2
    if level and abs(a.x - b.x) > 1.01:
        y0 = y1 = at_y = a.y - TALL / 2 - 0.08
        x0, x1 = a.x, b.x
    elif level:  # the gap between neighbours is no wider than the number
        at_y += _BESIDE if shift > 0 else -_BESIDE
    elif upright:
        at_y = y0 + (y1 - y0) * _EARLY
    width = 1.5 + 5 * min(1.0, hop.busy or 0.0)
    drawn = {
        "x": x1,
        "y": y1,
        "ax": x0,
        "ay": y0,
        "xref": "x",
        "yref": "y",
        "axref": "x",
        "ayref": "y",
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": 0.8,
        "arrowwidth": width,
        "arrowcolor": draw.ACCENT,
    }
    badge = draw.note(
        f"<b>{hop.number}</b>",
        at_x,
        at_y,
        font={"size": 11, "color": draw.PAPER},
        bgcolor=draw.ACCENT,
        borderpad=2,
    )
    return drawn, badge


def _edge(a: Box, b: Box) -> tuple[float, float]:
    """Where the line from the middle of ``a`` to that of ``b`` leaves the box of ``a``."""
    dx, dy = b.x - a.x, b.y - a.y
    half_x, half_y = HALF + 0.01, TALL / 2 + 0.02
    scale = min(half_x / abs(dx) if dx else float("inf"), half_y / abs(dy) if dy else float("inf"))
    return a.x + dx * scale, a.y + dy * scale
