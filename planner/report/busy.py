"""Busy: which nodes, drafts and links of a run worked for which share of the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from planner.report.tables import bar, grid

if TYPE_CHECKING:
    from rich.table import Table

_BUSIEST = 6
_NOTICED = 0.005
"""Share of the time from which a coordinator that drafts is worth a line."""


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
