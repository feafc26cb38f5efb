"""Where the time went: of requests, and of nodes, drafts and links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from planner.report.tables import Lines, bar, duration, grid

if TYPE_CHECKING:
    from rich.table import Table

_WORDS = {
    "tokenising": "tokenising",
    "waiting": "waiting for its first job",
    "prompt": "until the first token",
    "answer": "until the last token",
    "lost nodes": "standing still for lost nodes",
}

_BUSIEST = 6
_NOTICED = 0.005
"""Share of the time from which a coordinator that drafts is worth a line."""


def spent_text(spent_s: Mapping[str, float]) -> Lines:
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


def busy_table(
    nodes: Mapping[str, float], drafting: Mapping[str, float], links: Mapping[str, float]
) -> Table:
    """The busiest of each, by share of the time."""
    rows = grid("<", ">", "<")
    drafts = {f"{name} (drafts)": share for name, share in drafting.items() if share >= _NOTICED}
    for found in (nodes, drafts, links):
        ranked = sorted(found.items(), key=lambda one: (-one[1], one[0]))
        for name, share in ranked[:_BUSIEST]:
            if share:
                rows.add_row(f"  {name}", f"{share:.1%}", bar(share))
    return rows
