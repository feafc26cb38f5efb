from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from planner.files.surface import LinkEntry
from planner.files.yamlfile import read_yaml
from planner.run.peers import PeerListener
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


@pytest.mark.alone
@pytest.mark.slow
def test_what_it_writes_can_be_named(planner: Terminal, tmp_path: Path) -> None:
    done = planner("probe", "--quant", "bf16", "--out", tmp_path, "--format", "json")
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


@pytest.mark.parametrize(
    "arguments",
    [
        ("--peer", "nowhere"),
        ("--peer", "host:0"),
        ("--listen", "127.0.0.1:70000"),
        ("--listen", "127.0.0.1:0", "--peer", "host:1"),
    ],
)
def test_addresses_are_checked(planner: Terminal, arguments: tuple[str, ...]) -> None:
    assert planner("probe", *arguments).code == 2


@pytest.mark.alone
@pytest.mark.slow
def test_the_links_it_prints_go_into_a_scenario(planner: Terminal, tmp_path: Path) -> None:
    listener = PeerListener("127.0.0.1", 0)
    threading.Thread(target=listener.serve, daemon=True).start()
    done = planner(
        "probe", "--peer", f"127.0.0.1:{listener.port}", "--out", tmp_path, "--format", "json"
    )
    listener.close()
    (found,) = done.document["peers"]
    assert 0 < found["rtt_min_ms"] <= found["rtt_p50_ms"] <= found["rtt_p95_ms"]
    assert found["there"]["single_bytes_per_s"] > 1e6
    entries = read_yaml(tmp_path / "links.yaml").value["links"]
    assert [LinkEntry.model_validate(entry).dst for entry in entries[:1]] == ["127.0.0.1"]


def test_only_devices_that_torch_sees_can_be_probed(planner: Terminal, tmp_path: Path) -> None:
    assert planner("probe", "--device", "gpu", "--out", tmp_path).code == 2
    done = planner("probe", "--device", "cuda:99", "--out", tmp_path)
    assert done.code == 7
    assert "so there is no cuda:99" in done.stderr
    assert not list(tmp_path.iterdir())
