from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner.core.errors import InvalidFileError
from planner.files import yamlfile
from planner.files.yamlfile import parse_argument, parse_yaml, read_yaml


def said(text: str) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        parse_yaml(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_values_know_their_place() -> None:
    document = parse_yaml("a:\n  - {b: 1, c: x y}\n  - 2\nd: 1.10\n", "f.yaml")
    assert document.value == {"a": [{"b": 1, "c": "x y"}, 2], "d": 1.1}
    places = {
        path: (place.line, place.column, place.key_line, place.key_column)
        for path, place in document.places.items()
    }
    assert places == {
        (): (1, 1, 1, 1),
        ("a",): (2, 3, 1, 1),
        ("a", 0): (2, 5, 2, 5),
        ("a", 0, "b"): (2, 9, 2, 6),
        ("a", 0, "c"): (2, 15, 2, 12),
        ("a", 1): (3, 5, 3, 5),
        ("d",): (4, 4, 4, 1),
    }
    assert document.text(("d",)) == "1.10"


def test_a_problem_of_something_absent_is_told_where_it_should_be() -> None:
    document = parse_yaml("a:\n  b: 1\n", "f.yaml")
    assert str(document.problem(("a", "c"), "is missing")) == "f.yaml:2:3: a.c: is missing"
    assert str(document.problem(("a", "b"), "bad", key=True)) == "f.yaml:2:3: a.b: bad"
    assert str(document.problem(("a", "b"), "bad")) == "f.yaml:2:6: a.b: bad"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: is given twice, first in line 1; keep one"),
        ("x: {a: 1, a: 2}", "f.yaml:1:11: x.a: is given twice, first in line 1; keep one"),
        ("a: 012", "f.yaml:1:4: 012 means 12"),
        ("a: 1:30", "f.yaml:1:4: 1:30 is a number of base 60"),
        ("a: .nan", "f.yaml:1:4: .nan is not a finite number"),
        ("a:\n\tb: 1", "f.yaml:2:1: a tab stands here; indent with spaces"),
        ("\ta: 1", "f.yaml:1:1: a tab stands here"),
        ("a: &x 1", "f.yaml:1:4: anchors (&) and aliases (*)"),
        ("a: *x", "f.yaml:1:4: anchors (&) and aliases (*)"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1:4: tags (!)"),
        ("a: 1\n---\nb: 1", "f.yaml:2:1: a second document starts here"),
        ("a: b: c", "f.yaml:1:5: a colon is not expected here"),
        ("a: @b", "f.yaml:1:4: a value cannot start with '@'"),
        ("a: {b: 1", "f.yaml:2:1: is no YAML"),
        ("a: 'b", "f.yaml:1:6: is no YAML"),
        ("? [a]\n: 1", "f.yaml:1:3: a key must be a word"),
        ("a:\nb: 1", "f.yaml:1:3: a: has no value"),
        ("a: \x07", "f.yaml:1:4: character U+0007 is not allowed"),
        ("", "f.yaml: is empty"),
        ("# only a comment\n", "f.yaml: is empty"),
        ("- a\n", "f.yaml: must hold keys and values"),
        ("just words", "f.yaml: must hold keys and values"),
    ],
)
def test_traps_are_closed_at_their_place(text: str, expected: str) -> None:
    assert said(text)[0].startswith(expected)


def test_all_problems_are_told_at_once() -> None:
    lines = [problem.split(":")[1] for problem in said("a: 012\nb: .inf\nb: 1\nc: &x 1\n")]
    assert lines == ["1", "2", "3", "4"]


def test_a_long_list_of_problems_is_cut() -> None:
    problems = said("".join(f"k{index}: 01\n" for index in range(1000)))
    assert len(problems) == 51
    assert problems[-1].endswith("... and 950 more problems")


@pytest.mark.alone
def test_an_alias_bomb_does_not_go_off() -> None:
    layers = "".join(f"l{i}: &l{i} [*l{i - 1}, *l{i - 1}, *l{i - 1}]\n" for i in range(1, 40))
    started = time.process_time()
    assert "anchors" in said("l0: &l0 [x]\n" + layers)[0]
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 20_000, "{a: " * 5_000, "? " * 5_000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert said(text)


def test_both_parsers_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a:\n  - {b: 1, c: x y}\n  - '2'\nd: |\n  two\n  lines\ne: no\n"
    fast = parse_yaml(text, "f.yaml")
    monkeypatch.setattr(yamlfile, "_LOADER", yaml.SafeLoader)
    slow = parse_yaml(text, "f.yaml")
    assert (fast.value, fast.places) == (slow.value, slow.places)
    assert said("a: 012\na: &x 1\n")
    assert said("[" * 5_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is a binary file, not YAML"),
        (b"a: 1\nb: \xff\n", "byte 0xff is no UTF-8 text"),
        ("a: 1".encode("utf-16"), "is UTF-16"),
        (b"", "is empty"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    with pytest.raises(InvalidFileError, match=message):
        read_yaml(path)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a: 1")
    for path, message in (
        (tmp_path, "is a directory, not a file"),
        (tmp_path / "absent.yaml", "does not exist"),
        (tmp_path / "file" / "x.yaml", "does not exist"),
        (Path("a\0b"), "cannot be read"),
        (Path("/dev/zero"), "larger than 64 MiB"),
    ):
        with pytest.raises(InvalidFileError, match=message):
            read_yaml(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path).value == {"a": 1, "b": 2}


@pytest.mark.alone
def test_ten_thousand_lines_are_read_in_a_second() -> None:
    text = "nodes:\n" + "".join(f"  - id: n{i}\n    price: 0.4 USD/h\n" for i in range(5000))
    started = time.process_time()
    assert len(parse_yaml(text, "f.yaml").value["nodes"]) == 5000
    assert time.process_time() - started < 1


def test_words_of_an_argument_stay_text() -> None:
    assert parse_argument("[1, 012, null, {a: no}]", "--set") == ["1", "012", None, {"a": "no"}]
    with pytest.raises(InvalidFileError):
        parse_argument("[1", "--set")


YAMLISH = st.text(
    alphabet=st.sampled_from(list("ab01:.-+[]{},\"'|>&*!?#%@`~\n \t\r\\e_=<\x85\u2028\ufeffé😀")),
    max_size=60,
)


@given(text=st.one_of(YAMLISH, st.text(max_size=60)))
def test_no_text_crashes_the_reader(text: str) -> None:
    with suppress(InvalidFileError):
        document = parse_yaml(text, "f.yaml")
        assert set(document.places) >= {(), *((key,) for key in document.value)}


@given(data=st.binary(max_size=60))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with suppress(InvalidFileError):
        parse_yaml(yamlfile._text(data, "f.yaml"), "f.yaml")


@given(text=YAMLISH)
def test_no_argument_crashes_the_reader(text: str) -> None:
    with suppress(InvalidFileError):
        parse_argument(text, "--set")
