"""Kinds of work that scenarios name instead of describing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.preset import Preset
from planner.files.catalogue import Catalogue
from planner.files.scenario import load_scenario
from tests.files.world import SCENARIO, load, refused, write_scenario

START = SCENARIO.index("workload:")
BARE = SCENARIO[:START].replace("max_position_embeddings: 1024", "")
KNOWN = Catalogue(environ={})


def world(folder: Path, workload: str, more: str = "") -> str:
    cards = folder / "profiles" / "workloads"
    cards.mkdir(parents=True, exist_ok=True)
    (cards / "quick.yaml").write_text(
        "arrivals: {kind: closed, concurrency: 3}\n"
        "prompt: {kind: fixed, tokens: 40}\noutput: {kind: fixed, tokens: 5}\nrequests: 7\n"
        "must_have: {p95_e2el: 1 s, mean_ttft: 500 ms}\nsource: made up\nas_of: 2026-01-01\n"
    )
    return f"{BARE}workload: {workload}\n{more}"


def test_a_name_stands_for_lengths_arrivals_and_what_is_asked(tmp_path: Path) -> None:
    problem = load(tmp_path, world(tmp_path, "quick")).problem
    assert problem.workload.concurrency == 3
    assert problem.workload.requests == 7
    assert problem.requirements.must_have.latency_bounds_s() == {"ttft": 0.5, "e2el": 1.0}


def test_what_the_scenario_states_wins(tmp_path: Path) -> None:
    said = "{preset: quick, requests: 9}"
    problem = load(tmp_path, world(tmp_path, said, "must_have: {p95_e2el: 3 s}\n")).problem
    assert problem.workload.requests == 9
    assert problem.workload.prompt.mean_tokens == 40
    assert problem.requirements.must_have.latency_bounds_s() == {"ttft": 0.5, "e2el": 3.0}


def test_set_changes_the_preset_and_then_what_it_says(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, world(tmp_path, "{preset: batch, requests: 9}"))
    sets = ["workload.preset=quick", "workload.output.tokens=6"]
    workload = load_scenario(path, [tmp_path / "profiles"], sets).problem.workload
    assert (workload.requests, workload.output.mean_tokens) == (9, 6)


def test_an_unknown_preset_is_told_where_it_is_named(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, world(tmp_path, "quack"))
    assert "there is no workload 'quack'" in problem.message
    assert "did you mean quick?" in problem.message
    assert problem.line == BARE.count("\n") + 1


@pytest.mark.parametrize("name", ["chat", "agent", "batch", "background"])
def test_bundled_presets_say_where_they_are_from(name: str) -> None:
    card, _ = KNOWN.get("workloads", name)
    assert isinstance(card, Preset)
    assert "Azure" in card.source
    assert card.workload.sample(1)


def test_fine_tuning_brings_its_adapters(tmp_path: Path) -> None:
    scenario = load(tmp_path, world(tmp_path, "{preset: lora, prompt: {kind: fixed, tokens: 64}}"))
    assert scenario.finetune is not None
    assert scenario.finetune.rank == 16
