"""``planner simulate --capacity`` from the outside."""

from __future__ import annotations

import csv

import pytest

from tests.cli.scene import Scene

SOON = "must_have: {mean_ttft: 1 ms}\nserving: {max_num_seqs: 2}\n"


def test_every_target_is_simulated_under_the_largest_load_it_takes(scene: Scene) -> None:
    path = scene.manifest(SOON)
    soon = ("--set", "must_have.mean_ttft=400 us", "--capacity", "--requests", 20)
    records = scene.folder / "records.csv"
    said = scene.planner("simulate", path, *soon, "--records", records, "--format", "json")
    assert said.code == 0, said.stderr
    (target,) = said.document["targets"]
    found = target["capacity"]
    assert found["unit"] == "users"
    assert found["limited"]
    low, high = found["interval"]
    assert 1 <= low <= found["load"] <= high
    assert found["beyond"]["load"] == found["load"] + 1
    assert found["beyond"]["missed"][0]["metric"] == "mean_ttft_ms"
    assert target["metrics"]["mean_ttft_ms"] <= 0.4
    assert target["metrics"]["completed"] == max(20, 4 * found["load"])
    assert said.document["replications"] == 5
    assert len(list(csv.DictReader(records.read_text().splitlines()))) == 5 * max(
        20, 4 * found["load"]
    )
    (same,) = scene.planner(
        "simulate", path, *soon[:2], "--set", f"workload.arrivals.concurrency={found['load']:g}",
        "--requests", target["metrics"]["completed"], "--replications", 5, "--format", "json",
    ).document["targets"]  # fmt: skip
    assert same["metrics"] == target["metrics"]


def test_it_is_told_in_a_table(scene: Scene) -> None:
    said = scene.planner("simulate", scene.scenario(SOON), "--capacity", "--requests", 20)
    assert said.code == 0, said.stderr
    text = " ".join(said.stdout.split())
    assert "The largest load that meets the must-haves" in text
    assert "users, mean time to first token is" in text
    assert "at most 1 ms is asked" in text


def test_a_trace_is_replayed_faster_and_slower(scene: Scene) -> None:
    trace = scene.folder / "trace.csv"
    rows = "".join(f"{index},100,10\n" for index in range(30))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    path = scene.manifest(SOON)
    said = scene.planner("simulate", path, "--trace", trace, "--capacity", "--format", "json")
    found = said.document["targets"][0]["capacity"]
    assert found["unit"] == "requests_per_s"
    assert found["load"] > 1.0
    assert found["interval"] is not None


def test_a_load_without_limit_is_an_error_that_says_what_to_add(scene: Scene) -> None:
    said = scene.planner("simulate", scene.scenario("must_have: {}\n"), "--capacity")
    assert said.code == 2
    assert "no must-have that load can break" in said.stderr
    assert "must_have.p95_ttft" in said.stderr


def test_requests_that_all_come_at_once_have_no_rate(scene: Scene) -> None:
    trace = scene.folder / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n0,100,10\n")
    said = scene.planner("simulate", scene.manifest(SOON), "--trace", trace, "--capacity")
    assert said.code == 2
    assert "all requests of the trace come at once" in said.stderr


def test_fail_on_slo_looks_at_what_no_load_mends(scene: Scene) -> None:
    path = scene.manifest(SOON)
    never = ("--set", "must_have.mean_ttft=1 ns", "--requests", 20)
    said = scene.planner("simulate", path, "--capacity", "--fail-on-slo", *never)
    assert said.code == 6
    assert "none" in said.stdout
    well = scene.planner("simulate", path, "--capacity", "--fail-on-slo", "--requests", 20)
    assert well.code == 0


def test_the_page_tells_the_largest_load(scene: Scene) -> None:
    pytest.importorskip("plotly")
    page = scene.folder / "page.html"
    path = scene.manifest(SOON)
    said = scene.planner("simulate", path, "--capacity", "--requests", 20, "--html", page)
    assert said.code == 0, said.stderr
    assert "It takes up to " in page.read_text()
    assert (
        "at most 1 ms is asked; the plan has seats for 2, and one for more users"
        in page.read_text()
    )
    never = ("--set", "must_have.mean_ttft=1 ns", "--requests", 20)
    scene.planner("simulate", path, "--capacity", *never, "--html", page)
    assert "No load meets the must-haves: at 1 users" in page.read_text()
