from __future__ import annotations

from pathlib import Path

from tests.cli.world import Terminal
from tests.files.world import SCENARIO, write_scenario


def test_right_files_are_passed_over_in_silence(planner: Terminal, tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    card = tmp_path / "profiles/devices/chip.yaml"
    done = planner("validate", path, card, "--profiles", tmp_path / "profiles")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_every_problem_of_every_file_is_told_with_its_line(
    planner: Terminal, tmp_path: Path
) -> None:
    wrong = SCENARIO.replace("quants: [bf16]", "quants: [bf61]").replace("region: eu", "regoin: eu")
    path = write_scenario(tmp_path, wrong)
    card = tmp_path / "profiles/devices/chip.yaml"
    card.write_text(card.read_text().replace("8 GiB", "8"))
    files = (path, card, tmp_path / "absent.yaml")
    done = planner("validate", *files, "--profiles", tmp_path / "profiles")
    assert (done.code, done.stdout) == (3, "")
    assert f"{path}:5:10: quants[0]: " in done.stderr
    assert "did you mean bf16?" in done.stderr
    assert f"{card}:3:" in done.stderr or f"{card}:2:" in done.stderr
    assert "does not exist" in done.stderr


def test_json_lists_valid_and_invalid_files(planner: Terminal, tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    absent = tmp_path / "absent.yaml"
    done = planner(
        "validate", path, absent, "--profiles", tmp_path / "profiles", "--format", "json"
    )
    assert done.code == 3
    assert done.document["valid"] is False
    assert [one["valid"] for one in done.document["files"]] == [True, False]
    assert done.document["files"][1]["problems"][0]["message"]
