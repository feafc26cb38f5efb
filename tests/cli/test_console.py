from __future__ import annotations

import datetime
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.cli import console
from planner.core.errors import RunError


def test_json_has_a_version_first_and_no_number_that_json_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.emit_json(
        {"b": math.nan, "a": [math.inf, 0.1, (1,)], "p": Path("x"), "d": datetime.date(2026, 1, 2)}
    )
    out, err = capsys.readouterr()
    values = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert list(values) == ["schema_version", "b", "a", "p", "d"]
    assert values["schema_version"] == "1.0"
    assert (values["b"], values["a"]) == (None, [None, 0.1, [1]])
    assert (values["p"], values["d"], err) == ("x", "2026-01-02", "")


def test_json_refuses_what_is_no_plain_value() -> None:
    with pytest.raises(TypeError):
        console.emit_json({"x": object()})


def test_text_is_not_interpreted_and_as_wide_as_a_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console.emit("[red]a[/red] :smile: 12", "x " * 60)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[red]a[/red] :smile: 12"
    assert max(len(line) for line in lines) <= 100
    assert len(lines) == 3
    monkeypatch.setenv("COLUMNS", "40")
    console.emit("x " * 60)
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 40


def test_an_indented_line_stays_indented_where_it_wraps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    console.emit("  one two three four five-six", "one two three four five")
    assert capsys.readouterr().out.splitlines() == [
        "  one two three four",
        "    five-six",
        "one two three four ",
        "five",
    ]


def test_notes_and_progress_stay_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("one")
    console.warn("two")
    with console.progress("three", 2) as advance:
        advance(1)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "one\nwarning: two\n")


def test_rates_are_told_in_a_prefix_that_suits_bytes() -> None:
    assert console.rate(12e6, 2.0, "B") == "6 MB/s"
    assert console.rate(3.0, 2.0, "targets") == "1.5 targets/s"
    assert console.rate(3.0, 0.0, "B") == console.rate(3.0, 1.0, "") == ""


def test_a_terminal_sees_how_fast_it_goes_and_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress("pulling", 4, "B") as advance:
        for _ in range(4):
            advance(1)
    assert "pulling" in screen.getvalue()
    assert "B/s" in screen.getvalue()
    assert "left" in screen.getvalue()


@pytest.mark.parametrize("emit", [console.emit, console.emit_raw])
def test_a_full_disk_is_no_bug(
    emit: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(RunError, match="stdout cannot be written: No space left"):
            emit("data")
