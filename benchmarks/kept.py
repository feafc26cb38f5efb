"""Rows of a benchmark that is run in pieces: kept in a file, a JSON object a line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def keep(file: Path, row: Row) -> None:
    """Appends a row."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")


def kept(file: Path) -> list[Row]:
    """Every row so far."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def quantile(values: Iterable[float], share: float) -> float:
    """A quantile of absolute errors."""
    ordered = sorted(abs(value) for value in values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: list[float]) -> str:
    """Median, worst and every one of some signed errors."""
    worst = max(values, key=abs)
    every = " ".join(f"{value:+.1%}" for value in values)
    return f"{statistics.median(values):>+8.1%} {worst:>+8.1%}  {every}"
