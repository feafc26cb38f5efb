"""Figure: a picture as plotly's JSON, its colours named by role until the page knows its theme."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

INK, MUTED, GRID, PAPER, ACCENT = "@ink", "@muted", "@grid", "@paper", "@accent"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, GREY = "#E69F00", "#D55E00", "#8A8F98"
"""Okabe and Ito's colours (2008), told apart by people who see no red or no green."""

ROW_PX = 46
"""Height of a row whose label stands above its bar, where a narrow screen has room for it."""


Json = dict[str, Any]
"""A value as plotly's schema has it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture, what it is called and the same figures as a table."""

    name: str
    caption: str
    """What it says, for those who cannot see it."""
    data: list[Json]
    layout: Json
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    legend: tuple[tuple[str, str, str], ...] = ()
    """Mark, its colour and what it stands for."""


def layout(height_px: int, **more: Any) -> Json:
    """A quiet frame: no background, no zoom, nothing between the picture and the page."""
    frame = {
        "height": height_px,
        "autosize": True,
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": MUTED, "font": {"color": INK}},
        "dragmode": False,
        "showlegend": False,
    }
    return frame | more


def axis(title: str = "", **more: Any) -> Json:
    """An axis that is drawn no stronger than it needs to be."""
    plain = {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8},
        "gridcolor": GRID,
        "linecolor": GRID,
        "tickfont": {"size": 12, "color": MUTED},
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
    }
    return plain | more


HIDDEN: Json = {"visible": False, "fixedrange": True}


def rows_axis(count: int, head: float = 0.75) -> Json:
    """A hidden axis of rows, the first one on top with ``head`` rows of room for its label."""
    return HIDDEN | {"range": [count - 0.3, -head]}


def upright(x: float, colour: str, width: float, **more: Any) -> Json:
    """A line at ``x`` from the bottom of a picture to its top."""
    line = {"color": colour, "width": width} | more
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line}


def note(text: str, x: float, y: float, **more: Any) -> Json:
    """A text in a picture."""
    plain = {"text": text, "x": x, "y": y, "showarrow": False, "font": {"size": 12, "color": INK}}
    return plain | more


def row_label(row: int, text: str, value: str = "") -> list[Json]:
    """The label above a row's bar, at its left, and its figure, at its right."""
    place = {"xref": "paper", "yref": "y", "yanchor": "bottom", "bgcolor": PAPER, "borderpad": 0}
    made = [note(text, 0, row - 0.26, xanchor="left", align="left", **place)]
    if value:
        bold = {"size": 12, "color": INK, "weight": 600}
        made.append(note(value, 1, row - 0.26, xanchor="right", font=bold, **place))
    return made


def words(text: str, width: int = 0) -> str:
    """Text as plotly takes it, in lines of ``width`` characters if that is given."""
    lines = wrap(text, width) if width else [text]
    return "<br>".join(escape(line, quote=False) for line in lines)
