"""The tornado: how far each uncertain input is from the value at which the choice changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.report.page import draw
from planner.report.page.draw import Figure
from planner.report.page.facts import Turn

_WIDEST = 64.0
"""Factor beyond which a bar is cut off: no guess is that far off."""
_LINE_CHARS = 40
_ROW_PX, _HEAD = 92, 0.95
"""Room for a sentence of up to four lines above each bar."""


def tornado_figure(flips: Sequence[Turn]) -> Figure | None:
    """A bar from today's value to the value that flips, nearest first; None without flips."""
    found = sorted(
        (abs(math.log2(factor)), flip.text, factor, flip)
        for flip in flips
        if (factor := _factor(flip)) is not None
    )
    if not found:
        return None
    notes = []
    for row, (_, text, factor, _flip) in enumerate(found):
        lines = draw.words(text, _LINE_CHARS)
        notes += draw.row_label(
            row, lines, f"× {factor:.3g}" if factor > 1 else f"÷ {1 / factor:.3g}"
        )
    reach = max(abs(math.log2(_cut(factor))) for _, _, factor, _ in found) * 1.15
    apart = 1 if reach < 4 else 2
    ticks = [power for power in range(-6, 7, apart) if abs(power) <= reach]
    return Figure(
        "tornado",
        _said([text for _, text, _, _ in found]),
        [
            {
                "type": "bar",
                "orientation": "h",
                "y": list(range(len(found))),
                "x": [math.log2(_cut(factor)) for _, _, factor, _ in found],
                "width": 0.32,
                "offset": -0.18,
                "marker": {"color": [draw.BLUE if f > 1 else draw.ORANGE for _, _, f, _ in found]},
                "hovertext": [draw.words(text, 50) for _, text, _, _ in found],
                "hoverinfo": "text",
            }
        ],
        draw.layout(
            round(_ROW_PX * (len(found) - 0.3 + _HEAD)) + 46,
            xaxis=draw.axis(
                "today's value, times",
                range=[-reach, reach],
                tickvals=ticks,
                ticktext=[_tick(power) for power in ticks],
            ),
            yaxis=draw.rows_axis(len(found), _HEAD),
            shapes=[draw.upright(0, draw.INK, 1.5)],
            annotations=notes,
        ),
        ("input", "today", "flips at", "then better"),
        tuple(
            (flip.parameter, f"{flip.now:.4g}", f"{flip.to:.4g}", flip.winner)
            for _, _, _, flip in found
        ),
    )


def _said(texts: Sequence[str]) -> str:
    """The nearest flip, in a sentence."""
    if len(texts) == 1:
        return f"One input could change the choice: {texts[0]}."
    return f"Of {len(texts)} inputs that could change the choice, the nearest is this: {texts[0]}."


def _factor(flip: Turn) -> float | None:
    """The value that flips over today's; None where a ratio means nothing."""
    if flip.now <= 0 or flip.to <= 0 or not math.isfinite(flip.to) or flip.to == flip.now:
        return None
    return flip.to / flip.now


def _cut(factor: float) -> float:
    return min(_WIDEST, max(1 / _WIDEST, factor))


def _tick(power: int) -> str:
    if power == 0:
        return "today"
    return f"× {2**power}" if power > 0 else f"÷ {2**-power}"
