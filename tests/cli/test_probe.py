from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.world import Terminal


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from planner.cli.main import main\n"
        f"main(['probe', '--out', {str(tmp_path / 'out')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "")
    assert "planner probe needs torch" in done.stderr
    assert "planner[run]" in done.stderr
    assert not (tmp_path / "out").exists()


def test_more_is_refused_than_there_is_sense_in(planner: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert planner("probe", "--workers", 0).code == 2
    assert planner("probe", "--out", tmp_path / "file").code == 2


@pytest.mark.slow
def test_what_it_writes_can_be_named(planner: Terminal, tmp_path: Path) -> None:
    done = planner("probe", "--out", tmp_path, "--format", "json")
    values = done.document
    assert done.code == 0
    assert values["memory_bytes_per_s"] > 1e8
    assert set(values["flop_per_s"]) == {"fp32", "bf16", "int8"}
    assert values["hop_ms"] > 0
    named = planner(
        "estimate", "--model", "seeded-45m", "--device", "this-host", "--profiles", tmp_path,
        "--format", "json",
    ).document  # fmt: skip
    assert (named["engine"], named["quant"], named["tier"]) == ("this-host", "bf16", 2)
