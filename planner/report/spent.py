"""Where the time of a request went, in words and bars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from planner.report.tables import bar, duration, grid

if TYPE_CHECKING:
    from rich.console import RenderableType

_WORDS = {
    "tokenising": "tokenising",
    "waiting": "waiting for its first job",
    "prompt": "until the first token",
    "answer": "until the last token",
    "lost nodes": "standing still for lost nodes",
}


def spent_text(spent_s: Mapping[str, float]) -> Iterator[RenderableType]:
    """The parts of the mean time from the arrival to the last token."""
    whole_s = sum(spent_s.values())
    if not whole_s:
        return
    yield ""
    yield f"Where the {duration(whole_s)} of a request went"
    rows = grid("<", ">", ">", "<")
    for name, time_s in spent_s.items():
        if time_s > 0:
            share = time_s / whole_s
            rows.add_row(f"  {_WORDS[name]}", duration(time_s), f"{share:.1%}", bar(share))
    yield rows
