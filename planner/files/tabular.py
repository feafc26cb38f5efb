"""Tables of flat rows as comma-separated values or Parquet, as the name of the file says."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.core.columns import Columns, Kind
from planner.core.errors import RunError, UsageError
from planner.files.atomic import write_bytes, write_text

Row = Sequence[object]
"""Values in the order of the columns; None where nothing is known."""
_AT_ONCE = 100_000
"""Rows of a row group in Parquet."""


def check_table(path: Path) -> None:
    """Raises UsageError for a name that says no format, RunError where a package is missing."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UsageError(
            f"{path}: {path.suffix or 'a name without an ending'} says no format",
            "name a file that ends in .csv or .parquet",
        )
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise RunError(
            "Parquet needs pyarrow, which is not installed",
            "pip install 'planner[parquet]', or name a file that ends in .csv",
        )


def write_table(path: Path, columns: Columns, rows: Iterable[Row]) -> None:
    """Writes rows in the format that the name says; raises what ``check_table`` does."""
    check_table(path)
    if path.suffix.lower() == ".csv":
        write_text(path, _csv(columns, rows))
    else:
        write_bytes(path, _parquet(columns, rows))


def _csv(columns: Columns, rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    lists = [index for index, kind in enumerate(columns.values()) if kind == "wholes"]
    for row in rows:
        cells = list(row)
        for index in lists:
            cells[index] = " ".join(map(str, cells[index]))  # type: ignore[call-overload]
        writer.writerow(cells)
    return text.getvalue()


def _parquet(columns: Columns, rows: Iterable[Row]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    kinds: dict[Kind, Any] = {
        "text": pyarrow.string(),
        "whole": pyarrow.int64(),
        "real": pyarrow.float64(),
        "wholes": pyarrow.list_(pyarrow.int64()),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    sink = pyarrow.BufferOutputStream()
    with parquet.ParquetWriter(sink, schema) as writer:
        for group in _groups(rows):
            arrays = [
                pyarrow.array(values, type=column.type)
                for values, column in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while group := list(itertools.islice(left, _AT_ONCE)):
        yield group
