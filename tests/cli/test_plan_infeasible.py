"""Every kind of infeasible scenario: exit 4, what binds, and a change that works when applied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.scene import Scene
from tests.files.world import SCENARIO, write_cards, write_scenario

LOSSY = """\
name: Q4
weight_bits: 4.5
compute_dtype: bf16
quality: [{family: tiny, metric: task_recovery, value: 0.97, source: made up}]
"""
SMALL = SCENARIO.replace("device: chip\n", "device: chip\n    memory: 0.22 MB\n")
FLAKY = SCENARIO.replace("device: chip\n", "device: chip\n    churn: flaky\n")
KINDS = {
    "memory": (SMALL, "memory"),
    "latency": (SCENARIO + "must_have: {p95_ttft: 1 us}\n", "p95_ttft_ms"),
    "budget": (
        SCENARIO.replace("device: chip\n", "device: chip\n    price: 2 USD/h\n", 1)
        + "must_have: {usd_per_hour: 0.1 USD/h}\n",
        "usd_per_hour",
    ),
    "quality": (SCENARIO.replace("[bf16]", "[q4]") + "must_have: {quality: 0.99}\n", "quality"),
    "region": (SCENARIO + "must_have: {forbid_regions: [eu, us]}\n", "regions"),
    "trust": (
        SCENARIO.replace("device: chip\n", "device: chip\n    trust: unknown\n")
        + "must_have: {trust: rented}\n",
        "trust",
    ),
    "load": (
        SCENARIO.replace("{kind: closed, concurrency: 2}", "{kind: poisson, rate: 1e5 req/s}"),
        "load",
    ),
    "availability": (FLAKY + "must_have: {availability: 0.999999}\n", "availability"),
    "throughput": (SCENARIO + "must_have: {output_throughput: 1e9 tok/s}\n", "output_throughput"),
}


def with_change(text: str, change: dict[str, object]) -> list[str]:
    """The arguments, or the text of more nodes, that apply a proposed change."""
    assert change["must_have"] != "nodes"
    words = str(change["text"]).split(" ")
    if words[0] in ("raise", "lower"):  # as people copy it, with its unit
        return ["--set", f"{words[1]}={str(change['text']).rpartition(' to ')[2]}"]
    value = json.dumps(change["to"])
    if change["must_have"] == "workload.arrivals.rate":
        return ["--set", f"workload.arrivals.rate={value} req/s"]
    return ["--set", f"must_have.{change['must_have']}={value}"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_proposed_is_feasible_when_applied(scene: Scene, kind: str) -> None:
    text, constraint = KINDS[kind]
    path = write_scenario(scene.folder, text)
    (scene.folder / "profiles" / "quants" / "q4.yaml").write_text(
        f"{LOSSY}source: made up\nas_of: 2026-01-01\n"
    )
    said = scene.planner("plan", path, "--format", "json")
    assert said.code == 4, said.stderr
    assert said.document["constraint"] == constraint
    assert said.document["nearest"]["plan"]["pipelines"]
    change = said.document["change"]
    assert change["text"] in said.stderr.replace("\n", " ")
    if change["must_have"] == "nodes":
        again = scene.planner("plan", more_nodes(scene.folder, text, change))
    else:
        again = scene.planner("plan", path, *with_change(text, change))
    assert again.code == 0, again.stderr


def test_the_nearest_plan_is_the_one_that_the_change_would_make(scene: Scene) -> None:
    """Of availability, too, which no search optimises; and a bound is not rounded to another."""
    path = write_scenario(
        scene.folder,
        FLAKY
        + "serving: {max_num_seqs: 1}\nobjective: throughput\nmust_have: {availability: 0.99999}\n",
    )
    said = scene.planner("plan", path, "--format", "json")
    assert said.code == 4, said.stderr
    nearest = said.document["nearest"]["prediction"]["availability"]
    assert said.document["change"]["to"] == pytest.approx(nearest, abs=1e-4)
    assert "at least 0.99999 is asked" in said.stderr


def test_changes_that_help_only_together_are_proposed_and_work(scene: Scene) -> None:
    more = "must_have: {p95_ttft: 1 us, usd_per_hour: 0.1 USD/h}\n"
    text = SCENARIO.replace("device: chip\n", "device: chip\n    price: 2 USD/h\n", 1) + more
    path = write_scenario(scene.folder, text)
    said = scene.planner("plan", path, "--format", "json")
    assert said.code == 4, said.stderr
    assert said.document["change"] is None
    changes = said.document["changes"]
    assert {change["must_have"] for change in changes} == {"p95_ttft", "usd_per_hour"}
    assert all(change["text"] in said.stderr.replace("\n", " ") for change in changes)
    applied = [part for change in changes for part in with_change(text, change)]
    assert scene.planner("plan", path, *applied).code == 0


def more_nodes(folder: Path, text: str, change: dict[str, object]) -> Path:
    """The scenario with copies of the node that is proposed."""
    asked = change["to"]
    assert isinstance(asked, dict)
    like = next(entry for entry in text.split("  - ") if entry.startswith(f"id: {asked['like']}\n"))
    like = like.split("network:")[0]
    copies = "".join(
        "  - " + like.replace(f"id: {asked['like']}", f"id: more-{number}")
        for number in range(asked["add"])
    )
    write_cards(folder / "profiles")
    path = folder / "more.yaml"
    path.write_text(text.replace("network:\n", copies + "network:\n"))
    return path
