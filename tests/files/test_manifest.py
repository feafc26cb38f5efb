from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.errors import Exit, InvalidFileError, StaleManifestError
from planner.core.plan import Pipeline, Plan, Stage
from planner.files.manifest import (
    Manifest,
    check_digest,
    digest_of,
    manifest_from,
    manifest_text,
    plan_digest,
    read_manifest,
    read_running,
    write_manifest,
)
from planner.files.scenario import Scenario
from planner.files.target import load_target
from planner.files.yamlfile import parse_yaml, read_yaml
from planner.files.yamltext import to_yaml
from planner.plan.predict import predict
from tests.core.world import device, engine, link, problem, quant
from tests.files.world import load, manifest, write_scenario


def written(folder: Path, made: Manifest | None = None) -> Path:
    path = folder / "manifest.yaml"
    write_manifest(path, made or manifest())
    return path


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for made in (manifest(), manifest(load(tmp_path).problem)):
        assert read_manifest(written(tmp_path, made)) == made


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path).read_bytes()
    write_manifest(tmp_path / "again.yaml", read_manifest(tmp_path / "manifest.yaml"))
    assert (tmp_path / "again.yaml").read_bytes() == first
    assert first.startswith(b"# A plan made by planner")
    assert str(tmp_path).encode() not in manifest_text(manifest(load(tmp_path).problem)).encode()


@given(latency_s=st.floats(0, 1e3), bandwidth=st.floats(1e-3, 1e15), name=st.text(min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_the_digest_survives_the_file_for_any_figures(
    latency_s: float, bandwidth: float, name: str
) -> None:
    lines = (link(one_way_latency=latency_s, bandwidth=bandwidth),)
    made = manifest(problem(links=lines, name=name))
    assert manifest_from(parse_yaml(manifest_text(made), "m.yaml")) == made


def test_an_edited_problem_is_stale(tmp_path: Path) -> None:
    path = edited(written(tmp_path), "concurrency: 1", "concurrency: 9")
    with pytest.raises(StaleManifestError, match="was changed after it was planned") as caught:
        read_manifest(path)
    assert caught.value.exit_code == Exit.STALE


def test_a_manifest_without_its_problem_is_no_stale_one(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().partition("\nproblem:\n")[0] + "\n")
    with pytest.raises(InvalidFileError, match="problem: is missing") as caught:
        read_manifest(path)
    assert caught.value.exit_code == Exit.INVALID_FILE


def test_an_edited_plan_is_another_plan(tmp_path: Path) -> None:
    path = edited(written(tmp_path), "stop: 2", "stop: 3")
    edited(path, "start: 2", "start: 3")
    assert [stage.stop for stage in read_manifest(path).plan.pipelines[0].stages] == [3, 4]


def test_what_is_predicted_is_about_the_plan_that_is_there(tmp_path: Path) -> None:
    made = manifest()
    path = written(tmp_path, made.model_copy(update={"plan_digest": plan_digest(made.plan)}))
    assert read_manifest(path).prediction == made.prediction
    edited(path, "stop: 2", "stop: 3")
    edited(path, "start: 2", "start: 3")
    found = read_manifest(path)
    assert found.prediction == predict(found.problem, found.plan) != made.prediction
    assert found.bound.gap is None
    assert "the plan was edited" in found.warnings[0]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_num_seqs: 1", "max_num_seqs: 9000000", "stages[0].stop: layers 0 to 1 with"),
        ("stop: 2", "stop: 3", "starts at layer 2, expected 3"),
        ("stop: 4", "stop: 3", "stages[1].stop: stages end at layer 3 of 4"),
        ("{node: b", "{node: z", "stages[1].node: 'z' is no node with a device"),
        ("quant: bf16}", "quant: q9}", "stages[0].quant: 'q9' is no quantization"),
        ("standbys: []", "standbys: [{node: b, pipeline: 3, stage: 0}]", "no stage 0 of pipeline"),
        ("standbys: []", "standbys: [{node: z, pipeline: 0, stage: 0}]", "'z' is no node"),
        ("solver: exact", "solver: 3", "solver: must be text"),
        ("seed: 0", "seed: zero", "seed: must be a whole number"),
    ],
)
def test_a_plan_that_does_not_fit_is_told_at_its_place(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    path = edited(written(tmp_path), old, new)
    with pytest.raises(InvalidFileError) as caught:
        read_manifest(path)
    assert said in caught.value.message
    assert all(one.line for one in caught.value.problems)


def test_blocks_of_cache_need_not_hold_the_longest_request_of_every_seat(tmp_path: Path) -> None:
    seats, chip = 5000, device(memory=1e8)
    for scheduler, fits in (("vllm", True), ("runtime", False)):
        world = problem(devices=[chip], engine=engine(scheduler=scheduler))
        path = edited(
            written(tmp_path, manifest(world)), "max_num_seqs: 1", f"max_num_seqs: {seats}"
        )
        with nullcontext() if fits else pytest.raises(InvalidFileError, match=f"{seats} need"):
            read_manifest(path)


def test_another_major_version_is_refused_a_minor_one_is_read(tmp_path: Path) -> None:
    path = edited(written(tmp_path), 'schema_version: "1.0"', 'schema_version: "2.0"')
    with pytest.raises(StaleManifestError, match=r"has schema version 2.0") as caught:
        read_manifest(path)
    assert "plan again" in caught.value.hint
    edited(path, 'schema_version: "2.0"', 'schema_version: "1.7"')
    assert read_manifest(path).schema_version == "1.7"


def test_keys_of_a_later_minor_version_are_ignored(tmp_path: Path) -> None:
    made = manifest()
    values: dict[str, Any] = made.model_dump(mode="json")
    values["carbon"] = {"g_per_hour": 3}
    values["plan"]["colour"] = "red"
    values["plan"]["pipelines"][0]["stages"][1]["draft"] = 4
    values["problem"]["cluster"]["nodes"][0]["rack"] = "r1"
    values["problem"]["workload"]["prompt"]["shape"] = "round"
    values["problem_digest"] = digest_of(values["problem"])
    path = tmp_path / "later.yaml"
    path.write_text(to_yaml(values))
    found = read_manifest(path)
    assert (found.plan, found.problem) == (made.plan, made.problem)


def test_a_problem_that_another_version_wrote_is_stale_in_a_line(tmp_path: Path) -> None:
    values: dict[str, Any] = manifest().model_dump(mode="json")
    values["problem"]["workload"]["arrivals"] = {"kind": "tidal"}
    values["problem"]["workload"]["prompt"] = "long"
    values["problem_digest"] = digest_of(values["problem"])
    path = tmp_path / "other.yaml"
    path.write_text(to_yaml(values))
    with pytest.raises(StaleManifestError, match="another version of planner") as caught:
        read_manifest(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count(path.name) == 1
    assert "problem.workload" in str(caught.value)
    running = read_running(path)
    assert running.plan.pipelines == manifest().plan.pipelines
    assert running.plan.coordinator == manifest().problem.cluster.coordinator
    assert (running.problem, running.edited) == (None, False)
    values["plan"]["pipelines"] = []
    path.write_text(to_yaml(values))
    with pytest.raises(InvalidFileError, match=r"plan\.pipelines"):
        read_running(path)
    assert "plan SCENARIO" in caught.value.hint


def test_a_manifest_belongs_to_its_scenario(tmp_path: Path) -> None:
    mine = load(tmp_path).problem
    check_digest(manifest(mine), mine)
    with pytest.raises(StaleManifestError, match="another problem"):
        check_digest(manifest(mine), problem())


def test_a_target_is_a_scenario_or_a_manifest(tmp_path: Path) -> None:
    path = written(tmp_path)
    found = load_target(path)
    assert isinstance(found, Manifest)
    changed = load_target(path, overrides=["workload.arrivals.concurrency=3"])
    assert isinstance(changed, Manifest)
    assert changed.problem.workload.concurrency == 3
    assert (changed.plan, changed.problem_digest) == (found.plan, changed.problem.digest)
    scenario = load_target(write_scenario(tmp_path), [tmp_path / "profiles"])
    assert isinstance(scenario, Scenario)


def test_what_is_no_manifest_is_told(tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    with pytest.raises(InvalidFileError, match="is no manifest") as caught:
        read_manifest(path)
    assert "planner plan" in caught.value.hint


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_a_damaged_manifest_is_refused_never_a_crash(data: st.DataObject) -> None:
    lines = manifest_text(manifest()).splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    line = lines[index]
    at = data.draw(st.integers(0, len(line)))
    damage = data.draw(st.sampled_from(["", "x", ": ", "- ", "{", "]", "'", "9", "-", "\t", "&a "]))
    lines[index] = line[:at] + damage + line[at + data.draw(st.integers(0, 3)) :]
    with suppress(InvalidFileError, StaleManifestError):
        manifest_from(parse_yaml("\n".join(lines), "m.yaml"))


@pytest.mark.alone
def test_twenty_four_nodes_take_a_third_of_a_second(tmp_path: Path) -> None:
    nodes = [Node(id=f"n{index}", device=f"chip{index % 6}") for index in range(24)]
    lines = [link(a.id, b.id) for a in nodes for b in nodes if a is not b]
    chips = [device(f"chip{index}") for index in range(6)]
    world = problem(nodes, lines, chips, quants=(quant("q"),))
    stages = [
        Pipeline(
            stages=tuple(
                Stage(node=nodes[2 * index + half].id, start=2 * half, stop=2 * half + 2, quant="q")
                for half in range(2)
            )
        )
        for index in range(12)
    ]
    made = manifest(world, plan=Plan(pipelines=tuple(stages)))
    path, written_s, read_s = tmp_path / "m.yaml", [], []
    for _ in range(3):
        started = time.perf_counter()
        write_manifest(path, made)
        written_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        assert read_manifest(path).plan == made.plan
        read_s.append(time.perf_counter() - started)
    assert min(written_s) < 0.3
    assert min(read_s) < 0.3
    assert len(read_yaml(path).value["problem"]["cluster"]["links"]) == 24 * 23
