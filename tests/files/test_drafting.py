"""What a scenario says of drafts."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.core.errors import InvalidFileError
from planner.files.readable import write_card
from planner.files.scenario import load_scenario
from tests.files.world import CARDS, SCENARIO, load, write_scenario

HALF = CARDS["models/tiny"].replace("num_hidden_layers: 4", "num_hidden_layers: 2")
SAID = "source: made up\nas_of: 2026-01-01\n"


def with_half(folder: Path, text: str, card: str = HALF) -> Path:
    """A scenario file beside profiles that know a smaller model as well."""
    path = write_scenario(folder, text)
    (folder / "profiles" / "models" / "half.yaml").write_text(card + SAID)
    return path


def problems(folder: Path, text: str, card: str = HALF) -> list[str]:
    path = with_half(folder, text, card)
    with pytest.raises(InvalidFileError) as caught:
        load_scenario(path, [folder / "profiles"])
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_a_scenario_names_its_draft_as_it_names_its_model(tmp_path: Path) -> None:
    text = SCENARIO + "draft: half\nserving:\n  speculation: {draft_tokens: 3, acceptance: 0.6}\n"
    found = load_scenario(with_half(tmp_path, text), [tmp_path / "profiles"])
    assert found.problem.draft is not None
    assert found.problem.draft.num_hidden_layers == 2
    assert found.sources["models/half"].name == "half.yaml"


def test_what_keeps_a_draft_from_drafting_is_told_at_its_name(tmp_path: Path) -> None:
    speculation = "serving:\n  speculation: {draft_tokens: 3, acceptance: 0.6}\n"
    (said,) = problems(tmp_path, SCENARIO + "draft: half\n")
    assert said == "draft: is of no use without serving.speculation"
    other = HALF.replace("vocab_size: 100", "vocab_size: 90")
    (said,) = problems(tmp_path, SCENARIO + "draft: half\n" + speculation, other)
    assert "has 90 tokens, tiny has 100" in said
    short = HALF.replace("max_position_embeddings: 1024", "max_position_embeddings: 64")
    (said,) = problems(tmp_path, SCENARIO + "draft: half\n" + speculation, short)
    assert "exceed its context, 64 tokens" in said
    bare = SCENARIO.replace("- id: a\n    device: chip\n", "- id: a\n")
    (said,) = problems(tmp_path, bare + "draft: half\n" + speculation)
    assert "a coordinates and has no device to draft on" in said
    (said,) = problems(tmp_path, SCENARIO + "draft: hal\n" + speculation)
    assert said.startswith("draft: ")


def test_a_draft_that_no_seat_has_memory_for_deserves_a_warning(tmp_path: Path) -> None:
    text = SCENARIO + "draft: half\nserving:\n  speculation: {draft_tokens: 3, acceptance: 0.6}\n"
    assert not load_scenario(with_half(tmp_path, text), [tmp_path / "profiles"]).warnings
    path = with_half(
        tmp_path, text.replace("device: chip\n", "device: chip\n    memory: 50 kB\n", 1)
    )
    (said,) = load_scenario(path, [tmp_path / "profiles"]).warnings
    assert said.startswith("draft: the draft half in bf16 needs ")
    assert "are missing at a, where the coordinator sits" in said


def test_drafts_that_lose_the_rules_of_the_engine_deserve_a_warning(tmp_path: Path) -> None:
    text = SCENARIO + "serving:\n  speculation: {draft_tokens: 3, acceptance: 0.6}\n"
    assert not load(tmp_path / "runtime", text).warnings
    path = write_scenario(tmp_path, text)
    card = tmp_path / "profiles" / "engines" / "soft.yaml"
    card.write_text(card.read_text() + "scheduler: vllm\n")
    (said,) = load_scenario(path, [tmp_path / "profiles"]).warnings
    assert "not under those of soft" in said
    assert "two schedulers" not in said
    chosen = ["serving.speculation.at_most=true"]
    (said,) = load_scenario(path, [tmp_path / "profiles"], chosen).warnings
    assert said.endswith("two schedulers are compared")


def test_what_a_run_found_of_drafts_is_planned_with_where_a_scenario_does_not_say(
    tmp_path: Path,
) -> None:
    from planner.core.speculation import Drafting

    text = SCENARIO + "draft: half\nserving:\n  speculation: {draft_tokens: 3}\n"
    path = with_half(tmp_path, text)
    with pytest.raises(InvalidFileError) as caught:
        load_scenario(path, [tmp_path / "profiles"])
    assert [p.path for p in caught.value.problems] == ["serving.speculation.acceptance"]
    assert "--calibrate" in caught.value.hint
    engine = load(tmp_path / "other").problem.engine
    found = Drafting(model="tiny", draft="half", acceptance=0.625, source="a run")
    write_card(tmp_path / "found", engine.knowing(found))
    folders = [tmp_path / "found", tmp_path / "profiles"]
    speculation = load_scenario(path, folders).problem.serving.speculation
    assert speculation is not None
    assert speculation.acceptance == 0.625
    stated = load_scenario(path, folders, ["serving.speculation.acceptance=0.5"])
    assert stated.problem.serving.speculation is not None
    assert stated.problem.serving.speculation.acceptance == 0.5
