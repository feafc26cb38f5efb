from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.core.errors import InvalidFileError
from planner.files.atomic import write_text


def test_a_file_is_replaced_whole_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.yaml"
    write_text(path, "one")
    path.chmod(0o640)
    write_text(path, "two é")
    assert path.read_text(encoding="utf-8") == "two é"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidFileError, match="cannot be written: No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, said in (
        (tmp_path, "is a directory"),
        (pipe, "is no ordinary file"),
        (Path("/dev/null"), "is no ordinary file"),
        (tmp_path / "file" / "inside", "cannot be written"),
        (Path("a\0b"), "cannot be written"),
    ):
        with pytest.raises(InvalidFileError, match=said):
            write_text(path, "new")
    assert Path("/dev/null").is_char_device()
