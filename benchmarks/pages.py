"""Tables of pages in docs/measured, between marks; rows stay until others take their place."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path


def put(page: Path, name: str, lines: list[str], cells: int = 1) -> None:
    """Writes a table between ``<!-- name -->`` and ``<!-- /name -->``.

    Its rows take the place of those with the same first ``cells``; rows about anything else stay,
    so that a benchmark may be run in pieces.
    """

    def about(row: str) -> tuple[str, ...]:
        return tuple(row.split("|")[1 : 1 + cells])

    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = page.read_text().split(begin)
    table, after = rest.split(end)
    head, rows = lines[:2], dict[tuple[str, ...], list[str]]()
    for source in (table.strip().splitlines()[2:], lines[2:]):
        rows |= {key: list(found) for key, found in groupby(source, about)}
    every = [*head, *(row for found in rows.values() for row in found)]
    page.write_text(before + "\n".join([begin, *every, end]) + after)
