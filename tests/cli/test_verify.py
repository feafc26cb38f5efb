from __future__ import annotations

from pathlib import Path

from tests.cli.world import Terminal
from tests.receipts.world import honest


def write(folder: Path, lines: list[bytes]) -> Path:
    (folder / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def test_an_honest_log_is_accepted(planner: Terminal, tmp_path: Path) -> None:
    done = planner("verify", "log", write(tmp_path, honest()))
    assert done.code == 0
    assert "2 sessions, 24 receipts; 6 audits were due, 6 made" in done.stdout
    assert "as it should be" in done.stdout


def test_an_altered_record_is_named_with_exit_6(planner: Terminal, tmp_path: Path) -> None:
    lines = honest()
    lines[4] = lines[4].replace(b'"stop":6', b'"stop":7')
    done = planner("verify", "log", write(tmp_path, lines), "--format", "json")
    assert done.code == 6
    assert done.document["valid"] is False
    assert {
        "line": 5,
        "node": "c",
        "session": "session-0",
        "reason": "not signed with the key of c",
    } in done.document["findings"]
    assert "wrong with" in done.stderr


def test_another_manifest_is_noticed(planner: Terminal, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text("another")
    done = planner("verify", "log", write(tmp_path, honest()), "--manifest", manifest)
    assert done.code == 6
    assert "the log is of the manifest" in done.stdout


def test_a_folder_without_a_log_is_an_error(planner: Terminal, tmp_path: Path) -> None:
    done = planner("verify", "log", tmp_path)
    assert (done.code, done.stdout) == (3, "")
    assert "log.jsonl: cannot be read" in done.stderr
