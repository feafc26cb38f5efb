"""The difference of two manifests as tables: moves, numbers, changes of the problem."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planner.core.units import plain
from planner.core.words import label
from planner.report.tables import Lines, table

if TYPE_CHECKING:
    from rich.table import Table

_LONGEST = 40
_TOLD = (
    "mean_ttft_ms",
    "mean_tpot_ms",
    "output_throughput",
    "usd_per_hour",
    "usd_per_million_output_tokens",
)
"""Figures that the first sentence tells."""
_SMALLEST = 0.0005
"""Change, as a fraction, that is worth telling."""


def text(
    moved: Sequence[tuple[str, str, str]],
    numbers: Sequence[tuple[str, float | None, float | None, float | None]],
    changes: Sequence[tuple[str, Any, Any]],
) -> Lines:
    """Tables for people, those without a row left out.

    ``moved`` is node, before, after; ``numbers`` name, before, after and signed fraction;
    ``changes`` path, before and after.
    """
    yield _headline(moved, numbers)
    yield ""
    parts: list[tuple[str, Table]] = []
    if moved:
        rows = table("node", "before", "after")
        for row in moved:
            rows.add_row(*row)
        parts.append(("Moved", rows))
    if numbers:
        rows = table("figure", ">before", ">after", ">change")
        for name, before, after, change in numbers:
            percent = "" if change is None else f"{change:+.1%}"
            rows.add_row(name, _number(before), _number(after), percent)
        parts.append(("Predicted", rows))
    if changes:
        parts.append(("Problem", changes_table(changes)))
    for index, (title, rows) in enumerate(parts):
        if index:
            yield ""
        yield title
        yield rows


def changes_table(changes: Sequence[tuple[str, Any, Any]]) -> Table:
    """Values that changed, one a row: path, before and after."""
    rows = table("path", "before", "after")
    for path, old, new in changes:
        rows.add_row(path, _value(old), _value(new))
    return rows


def _headline(
    moved: Sequence[tuple[str, str, str]],
    numbers: Sequence[tuple[str, float | None, float | None, float | None]],
) -> str:
    """What moves and what that does to latency and cost, in a sentence."""
    nodes = f"{len(moved)} node{'s' * (len(moved) != 1)}"
    what = f"{nodes} hold something else" if moved else "Every node holds what it held"
    if len(moved) == 1:
        what = what.replace("hold", "holds")
    changed = {name: change for name, _, _, change in numbers if change is not None}
    told = [
        f"{label(name)} {changed[name]:+.1%}"
        for name in _TOLD
        if abs(changed.get(name, 0.0)) >= _SMALLEST
    ]
    return f"{what}; {', '.join(told) or 'latency and cost stay as they were'}."


def _number(value: float | None) -> str:
    return "none" if value is None else plain(value)


def _value(value: Any) -> str:
    """A value of a file in one line, cut where it is long."""
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return written if len(written) <= _LONGEST else written[: _LONGEST - 3] + "..."
