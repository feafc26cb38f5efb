"""Prices with their day and source."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from planner.core.prices import FRESH_DAYS
from planner.core.quote import Quote
from planner.report.tables import Lines, table


def quotes_text(found: Sequence[Quote], today: datetime.date) -> Lines:
    """A row for each price; below, the files they are from and those that lost against them."""
    rows = table("what", "kind", "region", ">value", "day", "list", ">source")
    sources = {one.source: str(number) for number, one in enumerate(_first(found), 1)}
    for one in found:
        old = (today - one.as_of).days > FRESH_DAYS
        day = f"{one.as_of}{' (old)' if old else ''}"
        number = f"[{sources[one.source]}]"
        rows.add_row(one.what, one.kind, one.region, one.value, day, one.list, number)
    yield rows
    yield "Sources"
    yield from (f"  [{number}] {source}" for source, number in sources.items())
    yield "Files"
    for file, beats in dict.fromkeys((one.file, one.beats) for one in found):
        lost = f", wins over {', '.join(beats)}" if beats else ""
        yield f"  {file}{lost}"


def _first(found: Sequence[Quote]) -> Iterator[Quote]:
    """The first quote of each source."""
    yield from {one.source: one for one in reversed(found)}.values()
