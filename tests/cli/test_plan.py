"""``planner plan`` from the outside."""

from __future__ import annotations

import subprocess
import sys

import pytest

from planner.files.manifest import read_manifest
from tests.cli.scene import MUST, Scene
from tests.files.world import SCENARIO, write_scenario

KEYS = [
    "schema_version",
    "problem_digest",
    "objective",
    "bound",
    "solver",
    "plan",
    "routing",
    "takeovers",
    "prediction",
    "candidates",
    "ties",
    "limits",
    "hidden_costs",
    "flips",
    "fallback",
    "left_out",
    "coordinator",
    "standbys",
    "drafts",
    "warnings",
    "drift",
    "moves",
    "prefix_cache",
    "finetune",
    "pareto",
]


def test_says_the_choice_first_and_writes_no_file_unasked(scene: Scene) -> None:
    path = scene.scenario(MUST)
    before = sorted(scene.folder.iterdir())
    said = scene.planner("plan", path)
    assert said.code == 0
    first, second, third = said.stdout.splitlines()[:3]
    assert first == "Run tiny in bf16 on a."
    assert "proven optimal" in second
    assert third.startswith("Calibration tier 0")
    assert "Must-haves, all met" in said.stdout
    assert "--out manifest.yaml" in said.stderr
    assert sorted(scene.folder.iterdir()) == before


def test_stdout_is_the_same_bytes_twice(scene: Scene) -> None:
    path = scene.scenario()
    assert scene.planner("plan", path).stdout == scene.planner("plan", path).stdout
    once, twice = (scene.planner("plan", path, "--format", "json").document for _ in range(2))
    assert once["solver"].pop("seconds") >= 0
    twice["solver"].pop("seconds")
    assert once == twice


def test_json_has_the_keys_of_the_contract(scene: Scene) -> None:
    document = scene.planner("plan", scene.scenario(), "--format", "json").document
    assert list(document) == KEYS
    assert document["objective"]["name"] == "tpot"
    assert document["objective"]["direction"] == "min"
    assert document["objective"]["value"] == document["prediction"]["mean_tpot_ms"]
    value = document["objective"]["value"]
    assert document["bound"] == {"value": value, "gap": 0.0, "weights": "equal"}
    assert document["routing"] == {"weights": [1.0], "equal_value": None}
    (pipeline,) = document["plan"]["pipelines"]
    (stage,) = pipeline["stages"]
    assert stage == {"node": "a", "start": 0, "stop": 4, "quant": "bf16"}
    assert {"weight", "max_num_seqs", "micro_batches"} < set(pipeline)
    assert document["plan"]["standbys"] == []
    assert [one["chosen"] for one in document["candidates"]].count(True) == 1


def test_manifest_and_json_say_why_the_search_ended(scene: Scene) -> None:
    path, out = scene.scenario(), scene.folder / "m.yaml"
    command = ("plan", path, "--out", out, "--time-limit", "100", "--format", "json")
    assert scene.planner(*command).document["solver"]["stopped"] == "proven"
    assert read_manifest(out).stopped == "proven"
    assert scene.planner("plan", path, "--time-limit", "0").code == 0


def test_a_front_is_searched_for_when_asked(scene: Scene) -> None:
    said = scene.planner("plan", scene.scenario(), "--pareto", "--format", "json").document
    assert said["pareto"]
    assert all(point["front"] for point in said["pareto"])
    text = scene.planner("plan", scene.scenario(), "--pareto").stdout
    assert "each found by a search of its own" in text


def test_the_manifest_holds_what_was_said(scene: Scene) -> None:
    run = "run:\n  checkpoint: models/tiny\n"
    path = scene.folder / "deep" / "manifest.yaml"
    said = scene.planner(
        "plan", scene.scenario(run), "--out", path, "--seed", 7, "--format", "json"
    )
    manifest = read_manifest(path)
    assert manifest.problem_digest == said.document["problem_digest"]
    assert manifest.plan.model_dump(mode="json") == said.document["plan"]
    assert manifest.seed == 7
    assert manifest.run is not None
    assert manifest.run.checkpoint == "../models/tiny"
    assert list(manifest.warnings) == said.document["warnings"]


def test_infeasible_exits_with_4_says_what_binds_and_writes_nothing(scene: Scene) -> None:
    path, out = scene.scenario("must_have: {mean_ttft: 1 ns}\n"), scene.folder / "m.yaml"
    said = scene.planner("plan", path, "--out", out, "--format", "json")
    assert said.code == 4
    assert said.document["constraint"] == "mean_ttft_ms"
    assert said.document["nearest"]["plan"]["pipelines"]
    assert "error: no plan meets the must-haves" in said.stderr
    assert "hint: " in said.stderr
    assert not out.exists()
    said = scene.planner("plan", path)
    assert (said.code, said.stdout) == (4, "")


def test_a_manifest_in_the_place_of_a_scenario_is_named_as_that(scene: Scene) -> None:
    manifest = scene.folder / "manifest.yaml"
    assert scene.planner("plan", scene.scenario(), "--out", manifest).code == 0
    said = scene.planner("plan", manifest)
    assert said.code == 3
    assert "is a manifest" in said.stderr
    assert "unknown key" not in said.stderr


def test_set_changes_the_scenario(scene: Scene) -> None:
    said = scene.planner("plan", scene.scenario(), "--set", "objective=throughput", "--format=json")
    assert said.document["objective"]["name"] == "throughput"
    assert said.document["objective"]["direction"] == "max"
    assert scene.planner("plan", scene.scenario(), "--set", "nonsense=1").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_never_imports_torch(scene: Scene, command: str) -> None:
    path, profiles = scene.scenario(), scene.folder / "profiles"
    code = (
        "import sys\n"
        "from planner.cli.main import app\n"
        f"app([{command!r}, {str(path)!r}, '--profiles', {str(profiles)!r}], "
        "standalone_mode=False)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_from_a_plan_that_runs_says_what_moves(scene: Scene) -> None:
    path, manifest = scene.scenario(MUST), scene.folder / "running.yaml"
    assert scene.planner("plan", path, "--out", manifest).code == 0
    said = scene.planner("plan", path, "--from", manifest)
    assert said.code == 0
    assert "What moves: nothing" in said.stdout
    told = scene.planner("plan", path, "--from", manifest, "--format", "json")
    assert '"moves": {' in told.stdout


def test_a_simulation_may_have_the_last_word(scene: Scene) -> None:
    said = scene.planner("plan", scene.scenario(), "--judge", "simulation", "--format", "json")
    tried = [one["trial"] for one in said.document["candidates"] if one["trial"]]
    assert tried
    assert tried[0]["mean_tpot_ms"] > 0
    text = scene.planner("plan", scene.scenario(), "--judge", "simulation").stdout
    figure = f"{tried[0]['mean_tpot_ms']:.4g} ms"
    assert f"Simulated under the workload, which has the last word: {figure}." in text


def test_a_chosen_coordinator_goes_all_the_way_and_goes_stale_with_its_scenario(
    scene: Scene,
) -> None:
    text = SCENARIO.replace("coordinator: a", "coordinator: [b, a]").replace("0.40", "9.0")
    path = write_scenario(scene.folder, text + "objective: usd_per_hour\n")
    out = scene.folder / "auto.yaml"
    said = scene.planner("plan", path, "--out", out)
    assert said.stdout.splitlines()[1] == "The coordinator sits at a."
    assert "Other seats of the coordinator\n  b: 9 instead of 0 USD/h" in said.stdout
    document = scene.planner("plan", path, "--format", "json").document
    told = document["coordinator"]
    assert (told["node"], told["chosen"], told["others"][0]["node"]) == ("a", True, "b")
    assert document["plan"]["coordinator"] == "a"
    manifest = read_manifest(out)
    assert document["problem_digest"] == manifest.problem_digest
    assert (manifest.plan.coordinator, manifest.problem.cluster.seats) == ("a", ("a",))
    fresh = scene.planner("simulate", out, "--scenario", path, "--no-alternatives")
    assert fresh.code == 0, fresh.stderr
    path.write_text(path.read_text().replace("[b, a]", "b"))
    assert scene.planner("simulate", out, "--scenario", path, "--no-alternatives").code == 5
    out.write_text(
        out.read_text().replace("  coordinator: a\nprediction", "  coordinator: b\nprediction")
    )
    refused = scene.planner("simulate", out, "--no-alternatives")
    assert refused.code == 3
    assert "the problem has its coordinator at a" in refused.stderr


def test_what_runs_without_its_coordinator_gets_another(scene: Scene) -> None:
    running = scene.manifest()
    auto = SCENARIO.replace("coordinator: a", "coordinator: auto")
    path = write_scenario(scene.folder, auto)
    said = scene.planner("plan", path, "--from", running, "--format", "json").document
    assert (said["coordinator"]["node"], said["moves"]["bytes"]) == ("a", 0)
    left = auto.replace("  - id: a\n    device: chip\n    region: eu\n", "")
    path.write_text(left.replace("0.40", "0.41"))
    moved = scene.planner("plan", path, "--from", running, "--format", "json").document
    assert moved["coordinator"]["node"] == moved["plan"]["coordinator"] == "b"


def test_the_number_of_drafts_is_told_and_goes_all_the_way(scene: Scene) -> None:
    drafts = "{draft_tokens: 3, at_most: true, acceptance: 0.7, draft_token: 1 us}"
    out = scene.manifest(f"serving:\n  speculation: {drafts}\n")
    manifest = read_manifest(out)
    assert manifest.plan.draft_tokens == 3
    assert manifest.problem.serving.speculation is not None
    assert not manifest.problem.serving.speculation.at_most
    path = scene.folder / "tiny.yaml"
    said = scene.planner("plan", path).stdout
    assert "Tokens drafted for one check" in said
    (row,) = (line for line in said.splitlines() if line.startswith("chosen  ") and "2.53" in line)
    assert row.split()[1:3] == ["3", "2.53"]
    document = scene.planner("plan", path, "--format", "json").document
    told = [(one["draft_tokens"], one["chosen"]) for one in document["drafts"]]
    assert told == [(0, False), (1, False), (2, False), (3, True)]
    assert scene.planner("simulate", out, "--scenario", path, "--no-alternatives").code == 0
    dear = path.read_text().replace("1 us", "10 s")
    path.write_text(dear)
    none = scene.planner("plan", path, "--out", out)
    assert none.code == 0
    assert read_manifest(out).problem.serving.speculation is None
    text = out.read_text()
    assert "  draft_tokens: 0\n" in text
    out.write_text(text.replace("  draft_tokens: 0\n", "  draft_tokens: 2\n"))
    refused = scene.planner("simulate", out, "--no-alternatives")
    assert refused.code == 3
    assert "the problem drafts 0 tokens" in refused.stderr


def test_a_weighted_sum_is_told_term_by_term(scene: Scene) -> None:
    wishes = "objective: weighted\nnice_to_have: {tpot: 1, throughput: 0.01, usd_per_hour: 20}\n"
    path = scene.scenario(wishes)
    document = scene.planner("plan", path, "--format", "json").document
    objective, metrics = document["objective"], document["prediction"]
    assert (objective["name"], objective["unit"]) == ("weighted", "points")
    assert objective["points"] == {
        "tpot": metrics["mean_tpot_ms"],
        "throughput": -0.01 * metrics["output_throughput"],
        "usd_per_hour": 20 * metrics["usd_per_hour"],
    }
    assert objective["value"] == pytest.approx(sum(objective["points"].values()))
    assert document["bound"]["gap"] == 0
    said = scene.planner("plan", path).stdout
    assert said.splitlines()[1].startswith("Predicted weighted sum: ")
    assert " points for 0 USD/h." in said
    ratio = scene.scenario(
        "objective: weighted\nnice_to_have: {usd_per_million_output_tokens: 1}\n"
    )
    refused = scene.planner("plan", ratio)
    assert refused.code == 3
    assert "weighted cannot weigh usd_per_million_output_tokens" in refused.stderr


def test_what_from_moves_may_be_limited(scene: Scene) -> None:
    running = scene.manifest()
    path = scene.scenario()
    held = read_manifest(running).plan.nodes
    text = path.read_text()
    path.write_text(text.replace(f"id: {held[0]}\n", f"id: {held[0]}\n    memory: 1 kB\n"))
    moved = scene.planner("plan", path, "--from", running, "--format", "json").document["moves"]
    assert moved["bytes"] > 0
    refused = scene.planner("plan", path, "--from", running, "--max-moved", "1 B")
    assert refused.code == 4
    assert "no plan moves at most 1 B" in refused.stderr
    wrong = scene.planner("plan", path, "--from", running, "--max-downtime", "90")
    assert wrong.code == 2
    assert "--max-downtime 90: '90' has no unit" in wrong.stderr


def test_what_changed_since_a_plan_was_made_is_told(scene: Scene) -> None:
    running, path = scene.manifest(), scene.scenario()
    quiet = scene.planner("plan", path, "--from", running)
    assert "What changed since that plan was made: nothing" in quiet.stdout
    slower = ("--set", "serving.detect=7 s")
    document = scene.planner("plan", path, "--from", running, *slower, "--format=json").document
    assert document["drift"] == [{"path": "serving.detect_s", "before": 5.0, "now": 7.0}]
    assert "serving.detect_s" in scene.planner("plan", path, "--from", running, *slower).stdout
    assert document["moves"]["bytes"] == 0
    assert scene.planner("plan", path, "--format", "json").document["drift"] is None


def test_a_problem_that_somebody_changed_in_what_runs_is_noticed(scene: Scene) -> None:
    running, path = scene.manifest(), scene.scenario()
    edited = running.read_text().replace("    detect_s: 5.0\n", "    detect_s: 6.0\n")
    assert edited != running.read_text()
    running.write_text(edited)
    said = scene.planner("plan", path, "--from", running, "--format", "json").document
    assert any("was changed after it was planned" in one for one in said["warnings"])
    assert said["drift"] == [{"path": "serving.detect_s", "before": 6.0, "now": 5.0}]


def test_what_runs_another_model_is_of_no_use(scene: Scene) -> None:
    running, path = scene.manifest(), scene.scenario()
    held = read_manifest(running)
    assert scene.planner("plan", path, "--from", running, "--max-moved", "1 B").code == 0
    text = running.read_text().replace(f"id: {held.problem.model.id}\n", "id: another\n")
    running.write_text(text)
    said = scene.planner("plan", path, "--from", running, "--format", "json").document
    assert sum(one["layers"] for one in said["moves"]["loads"]) == 4
    assert any("runs another, not " in one for one in said["warnings"])
    assert scene.planner("plan", path, "--from", running, "--max-moved", "1 B").code == 4


def test_limits_on_what_moves_need_a_plan_that_runs(scene: Scene) -> None:
    said = scene.planner("plan", scene.scenario(), "--max-moved", "3 GB")
    assert said.code == 2
    assert "--from MANIFEST" in said.stderr
