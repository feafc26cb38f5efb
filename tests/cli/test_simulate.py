"""``planner simulate`` from the outside."""

from __future__ import annotations

import csv

import pytest

from tests.cli.scene import Scene
from tests.files.world import SCENARIO, write_scenario

API = "alternatives:\n  - api: {prices: shop}\n"
HASTE = "must_have: {output_throughput: 1000000 tok/s}\n"


def test_a_manifest_is_replayed_the_same_way_twice(scene: Scene) -> None:
    path = scene.manifest()
    once, twice = (scene.planner("simulate", path, "--format", "json").document for _ in range(2))
    (target,) = once["targets"]
    assert target["name"] == "tiny"
    assert target["metrics"]["completed"] == 100
    assert set(target["events"]) == {
        "failures", "failovers", "retries", "preemptions", "notices", "handovers", "duds"
    }  # fmt: skip
    assert target["recoveries"] == []
    assert once["engine"].pop("wall_s") >= 0
    twice["engine"].pop("wall_s")
    assert once == twice
    assert scene.planner("simulate", path).stdout == scene.planner("simulate", path).stdout


def test_a_scenario_competes_with_its_alternatives(scene: Scene) -> None:
    other = SCENARIO.replace("name: tiny", "name: other").replace("region: us", "region: asia")
    write_scenario(scene.folder, other, "other.yaml")
    none = other.replace("name: other", "name: none").replace("0.40 USD/h", "9 USD/h")
    none = none.replace("region: eu", "region: eu\n    price: 9 USD/h")
    write_scenario(scene.folder, none, "none.yaml")
    more = API + "  - scenario: other.yaml\n  - scenario: none.yaml\n"
    strict = "must_have: {usd_per_hour: 1 USD/h}\n"
    document = scene.planner("simulate", scene.scenario(more + strict), "--format=json").document
    assert [row["name"] for row in document["comparison"]] == ["tiny", "other", "none", "Shop tiny"]
    kinds = ["scenario", "scenario", "scenario", "api"]
    assert [row["kind"] for row in document["comparison"]] == kinds
    tiny, other_row, none_row, shop = document["comparison"]
    assert [miss["metric"] for miss in none_row["missed"]] == ["usd_per_hour"]
    assert document["verdict"]["winner"] == "tiny"
    assert document["verdict"]["text"][0].startswith("Use tiny at ")
    assert tiny["mean_tpot_ms"] == other_row["mean_tpot_ms"]
    # 100 prompt tokens at 1 USD/Mtok and 10 output tokens at 2 USD/Mtok, by 10 output tokens.
    assert shop["usd_per_million_output_tokens"] == pytest.approx((100 * 1 + 10 * 2) / 10)
    assert shop["mean_tpot_ms"] is None
    text = scene.planner("simulate", scene.scenario(more + strict)).stdout
    assert "none: 0.4" not in text
    assert "misses: cost per hour is 9 USD/h, at most 1 USD/h is asked" in " ".join(text.split())


def test_a_slo_that_is_missed_fails_only_when_asked(scene: Scene) -> None:
    path = scene.scenario("alternatives: []\n")
    must = ("--set", "must_have.output_throughput=9000000 tok/s")
    manifest = scene.manifest()
    said = scene.planner("simulate", manifest, *must, "--format", "json")
    assert said.code == 0
    (row,) = said.document["comparison"]
    assert [miss["metric"] for miss in row["missed"]] == ["output_throughput"]
    said = scene.planner("simulate", manifest, *must, "--fail-on-slo")
    assert said.code == 6
    assert "output throughput is" in said.stderr
    assert "Must-haves missed" in said.stdout
    assert scene.planner("simulate", path, "--fail-on-slo").code == 0


def test_replications_bring_intervals_and_records(scene: Scene) -> None:
    path = scene.manifest(
        "", "--set", "workload.output={kind: lognormal, median_tokens: 8, sigma: 1, max_tokens: 99}"
    )
    out = scene.folder / "records.csv"
    said = scene.planner(
        "simulate", path, "--replications", 3, "--requests", 5, "--records", out, "--format=json"
    )
    (target,) = said.document["targets"]
    low, high = target["confidence"]["mean_e2el_ms"]
    assert low < target["metrics"]["mean_e2el_ms"] < high
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["replication"], row["id"]) for row in rows] == [
        (str(replication), str(request)) for replication in range(3) for request in range(5)
    ]
    mean = sum(float(row["e2el_ms"]) for row in rows) / len(rows)
    assert mean == pytest.approx(target["metrics"]["mean_e2el_ms"])


def test_the_seed_is_the_manifests_unless_given(scene: Scene) -> None:
    lengths = "workload.output={kind: lognormal, median_tokens: 8, sigma: 1, max_tokens: 99}"
    path = scene.manifest("", "--set", lengths, "--seed", 3)
    default = scene.planner("simulate", path).stdout
    assert default == scene.planner("simulate", path, "--seed", 3).stdout
    assert default != scene.planner("simulate", path, "--seed", 4).stdout


def test_a_manifest_of_another_scenario_is_refused(scene: Scene) -> None:
    path = scene.manifest()
    same, other = scene.scenario(), scene.scenario(HASTE, "other.yaml")
    assert scene.planner("simulate", path, "--scenario", same).code == 0
    assert scene.planner("simulate", path, "--scenario", other).code == 5


def test_a_trace_is_replayed_and_checked(scene: Scene) -> None:
    trace = scene.folder / "trace.csv"
    trace.write_text("t_s,in_tokens,out_tokens\n0,100,10\n1,100,5\n2,100,5000\n3,100,0\n")
    path = scene.manifest()
    done = scene.planner("simulate", path, "--trace", trace, "--check", "--format", "json")
    (target,) = done.document["targets"]
    assert (target["metrics"]["completed"], target["metrics"]["failed"]) == (2, 1)
    (failure,) = target["failures"]
    assert failure["requests"] == 1
    assert failure["reason"].startswith("up to 5100 tokens do not fit a seat of ")
    told = scene.planner("simulate", path, "--trace", trace).stdout
    assert f"1 failed: {failure['reason']}\n    mend: plan again" in told
    assert "1 rows without prompt or answer are left out" in done.stderr
