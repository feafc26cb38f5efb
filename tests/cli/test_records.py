"""``--records`` and ``--visits`` of simulate."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from tests.cli.scene import Scene

LENGTHS = "workload.output={kind: lognormal, median_tokens: 8, sigma: 1, max_tokens: 99}"


def rows_of(path: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_records_in_both_formats_say_the_same(scene: Scene) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = scene.manifest("", "--set", LENGTHS)
    kept = {}
    for name in ("rows.csv", "rows.parquet"):
        out = scene.folder / name
        said = scene.planner(
            "simulate", path, "--replications", 2, "--requests", 5, "--records", out
        )
        assert said.code == 0, said.stderr
        assert f"records written to {out}" in said.stderr
        kept[name] = out
    table = parquet.read_table(kept["rows.parquet"]).to_pylist()
    text = rows_of(kept["rows.csv"])
    assert len(table) == 10
    assert [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in table
    ] == text


def test_visits_have_a_row_per_job_at_every_place(scene: Scene) -> None:
    path = scene.manifest()
    out = scene.folder / "visits.csv"
    plain = scene.planner("simulate", path, "--requests", 3, "--format", "json").document
    said = scene.planner(
        "simulate", path, "--requests", 3, "--visits", out, "--format", "json"
    ).document
    exact, coalesced = said["targets"][0]["metrics"], plain["targets"][0]["metrics"]
    assert exact["mean_e2el_ms"] == pytest.approx(coalesced["mean_e2el_ms"], abs=1e-6)
    visits = rows_of(out)
    assert set(visits[0]) == {
        "target", "replication", "place", "job", "phase", "came_s", "began_s", "ended_s", "requests"
    }  # fmt: skip
    for visit in visits:
        assert float(visit["came_s"]) <= float(visit["began_s"]) <= float(visit["ended_s"])
    computing = [one for one in visits if "->" not in one["place"]]
    # Two users, then one: a prompt each, and decode steps of both until the third is alone.
    prompts = [one["requests"] for one in computing if one["phase"] == "prefill"]
    assert sorted(prompts) == ["0", "1", "2"]
    tokens = sum(len(one["requests"].split()) for one in computing if one["phase"] == "decode")
    assert tokens == 3 * 9


def test_a_file_without_a_format_is_refused_before_anything_is_simulated(scene: Scene) -> None:
    path = scene.manifest()
    for flag in ("--records", "--visits"):
        said = scene.planner("simulate", path, flag, scene.folder / "rows.json")
        assert said.code == 2
        assert "ends in .csv or .parquet" in said.stderr
        assert said.stdout == ""


def test_two_outputs_of_one_name_are_refused(scene: Scene) -> None:
    out = scene.folder / "rows.csv"
    again = scene.folder / "folder" / ".." / "rows.csv"
    said = scene.planner("simulate", scene.manifest(), "--records", out, "--visits", again)
    assert (said.code, said.stdout) == (2, "")
    assert "is named for two outputs" in said.stderr
    assert not out.exists()


def test_what_cannot_be_written_is_told_before_anything_is_simulated(scene: Scene) -> None:
    inside = scene.manifest() / "rows.csv"
    said = scene.planner("simulate", scene.folder / "no-such.yaml", "--records", inside)
    assert said.code == 3
    assert "rows.csv: cannot be written: Not a directory" in said.stderr


def test_endings_may_be_written_large(scene: Scene) -> None:
    out = scene.folder / "ROWS.CSV"
    said = scene.planner("simulate", scene.manifest(), "--requests", 3, "--records", out)
    assert said.code == 0, said.stderr
    assert len(rows_of(out)) == 3
