from __future__ import annotations

from pathlib import Path

from tests.cli.world import Terminal
from tests.files.world import write_scenario


def test_scripts_and_page_are_written(planner: Terminal, tmp_path: Path) -> None:
    manifest, out = tmp_path / "manifest.yaml", tmp_path / "launch"
    scenario = write_scenario(tmp_path)
    planner("plan", scenario, "--profiles", tmp_path / "profiles", "--out", manifest)
    done = planner("export", manifest, "--to", "vllm", "--out", out, "--format", "json")
    assert done.code == 0
    assert done.document["engine"] == "vllm"
    assert sorted(done.document["files"]) == sorted(map(str, filter(Path.is_file, out.rglob("*"))))
    assert (out / "README.md").exists()
    assert all(f"warning: {told}" in done.stderr for told in done.document["warnings"])


def test_an_engine_that_nobody_exports_to_is_an_error(planner: Terminal, tmp_path: Path) -> None:
    done = planner("export", tmp_path / "m.yaml", "--to", "exo", "--out", tmp_path)
    assert done.code == 2
