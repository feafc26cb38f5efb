"""Tables as comma-separated values and as Parquet."""

from __future__ import annotations

import builtins
import importlib.util
from pathlib import Path

import pytest

from planner.core.columns import Columns
from planner.core.errors import InvalidFileError, RunError, UsageError
from planner.files.tabular import check_table, write_table

COLUMNS: Columns = {"name": "text", "count": "whole", "time_s": "real", "ids": "wholes"}
ROWS = [("one", 3, 0.5, (1, 2)), ("two, or more", 4, None, ())]


def test_comma_separated_values_are_empty_where_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_table(path, COLUMNS, iter(ROWS))
    assert path.read_text() == 'name,count,time_s,ids\none,3,0.5,1 2\n"two, or more",4,,\n'


def test_parquet_keeps_the_kinds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    write_table(path, COLUMNS, iter(ROWS))
    table = parquet.read_table(path)
    kinds = [str(column.type) for column in table.schema]
    assert kinds == ["string", "int64", "double", "list<element: int64>"]
    assert table.to_pylist() == [
        {"name": "one", "count": 3, "time_s": 0.5, "ids": [1, 2]},
        {"name": "two, or more", "count": 4, "time_s": None, "ids": []},
    ]
    assert [one.name for one in tmp_path.iterdir()] == ["rows.parquet"]


def test_parquet_is_written_in_groups(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    write_table(path, {"count": "whole"}, ((index,) for index in range(250_000)))
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert parquet.read_table(path).column("count").to_pylist() == list(range(250_000))


def test_no_rows_are_a_table_with_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "none.parquet", COLUMNS, [])
    assert parquet.read_table(tmp_path / "none.parquet").column_names == list(COLUMNS)
    write_table(tmp_path / "none.csv", COLUMNS, [])
    assert (tmp_path / "none.csv").read_text() == "name,count,time_s,ids\n"


def test_a_name_says_the_format(tmp_path: Path) -> None:
    for name in ("rows.json", "rows"):
        with pytest.raises(UsageError, match="says no format"):
            write_table(tmp_path / name, COLUMNS, ROWS)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(InvalidFileError, match="is a directory"):
            write_table(tmp_path / name, COLUMNS, ROWS)


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "planner.files.tabular.find_spec",
        lambda name: None if name == "pyarrow" else found(name),
    )
    with pytest.raises(RunError) as raised:
        check_table(Path("rows.parquet"))
    assert "planner[parquet]" in raised.value.hint
    check_table(Path("rows.csv"))


def test_comma_separated_values_need_no_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        assert not name.startswith("pyarrow")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    write_table(tmp_path / "rows.csv", COLUMNS, ROWS)
