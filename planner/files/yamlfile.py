"""Reading YAML safely: every value with its place, every classic trap closed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from planner.core.errors import FileProblem, InvalidFileError
from planner.files.document import Document, KeyPath, Place, refuse, spell
from planner.files.scalars import Scalar, resolve

MOST_BYTES = 64 * 2**20
MOST_DEPTH = 40

_UNREADABLE: dict[type[Exception], str] = {
    FileNotFoundError: "does not exist",
    IsADirectoryError: "is a directory, not a file",
    NotADirectoryError: "does not exist: a part of its path is no directory",
    PermissionError: "may not be read",
}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_yaml(path: Path) -> Document:
    """The mapping that a file holds; raises InvalidFileError with all that is wrong with it."""
    return parse_yaml(_text(_bytes(path), str(path)), str(path))


def parse_yaml(text: str, file: str) -> Document:
    """The mapping that ``text`` holds; ``file`` is named in errors. Raises InvalidFileError."""
    builder = _Builder(file, resolve)
    root = builder.build(text)
    if not isinstance(root, dict) and not builder.problems:
        message = "is empty" if root is None else "must hold keys and values (key: value)"
        builder.problems.append(FileProblem(file, message))
    refuse(builder.problems)
    return Document(file, root, builder.places)


def parse_argument(text: str, file: str) -> Any:
    """One value given on the command line; words stay text. Raises InvalidFileError."""
    builder = _Builder(file, lambda word: None if word in ("null", "~") else word)
    value = builder.build(text)
    refuse(builder.problems)
    return value


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = _UNREADABLE.get(type(error), f"cannot be read: {reason}")
        raise InvalidFileError([FileProblem(str(path), message)]) from None
    if len(data) > MOST_BYTES:
        message = f"is larger than {MOST_BYTES >> 20} MiB"
        raise InvalidFileError([FileProblem(str(path), message)])
    return data


def _text(data: bytes, file: str) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidFileError([FileProblem(file, "is UTF-16")], "save it as UTF-8")
    if b"\0" in data:
        raise InvalidFileError([FileProblem(file, "is a binary file, not YAML")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = FileProblem(file, f"byte 0x{data[error.start]:02x} is no UTF-8 text", line=line)
        raise InvalidFileError([found], "save it as UTF-8") from None


@dataclass(slots=True)
class _Open:
    """A mapping or list that is still being read."""

    value: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None
    key_mark: tuple[int, int] = (1, 1)


class _Builder:
    """Values and places from parser events, without recursion: depth cannot exhaust a stack."""

    def __init__(self, file: str, word: Callable[[str], Scalar]) -> None:
        self.file = file
        self.word = word
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[FileProblem] = []
        self._stack: list[_Open] = []
        self._root: Any = None

    def build(self, text: str) -> Any:
        """The value of the only document in ``text``; ``problems`` holds what is wrong."""
        odd = _UNPRINTABLE.search(text)
        if odd:
            line = text.count("\n", 0, odd.start()) + 1
            column = odd.start() - text.rfind("\n", 0, odd.start())
            self._complain(f"character U+{ord(odd[0]):04X} is not allowed", (line, column))
            return None
        documents = 0
        try:
            for event in _events(text):
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        self._complain("a second document starts here; keep one", _mark(event))
                        break
                elif isinstance(event, yaml.NodeEvent):
                    if not self._take(event):
                        break
                elif isinstance(event, yaml.CollectionEndEvent):
                    self._stack.pop()
        except yaml.YAMLError as error:
            self.problems.append(_wording(error, text, self.file))
        except RecursionError:
            self._complain("is nested too deeply", (1, 1))
        return self._root

    def _take(self, event: yaml.NodeEvent) -> bool:
        """Takes one node in; False where reading on makes no sense."""
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._complain("anchors (&) and aliases (*) are not used here; repeat the value", mark)
        elif getattr(event, "tag", None):
            self._complain("tags (!) are not used here; remove it", mark)
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            return self._take_key(top, event)
        value, text = self._value(event)
        path = self._attach(top, value, mark, text)
        if text == "" and path:
            self._complain("has no value; give it one or remove the key", mark, path)
        if isinstance(value, (dict, list)) and isinstance(event, yaml.CollectionStartEvent):
            self._stack.append(_Open(value, path))
            if len(self._stack) > MOST_DEPTH:
                self._complain(f"is nested more than {MOST_DEPTH} deep", mark)
                return False
        return True

    def _take_key(self, top: _Open, event: yaml.NodeEvent) -> bool:
        mark = _mark(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._complain("a key must be a word, not a list or a mapping", mark, top.path)
            return False
        key = str(event.value)
        assert isinstance(top.value, dict)
        path = (*top.path, key)
        if key in top.value:
            first = self.places[path].key_line
            self._complain(f"is given twice, first in line {first}; keep one", mark, path)
        top.key, top.key_mark = key, mark
        return True

    def _attach(
        self, top: _Open | None, value: Any, mark: tuple[int, int], text: str | None
    ) -> KeyPath:
        if top is None:
            self._root = value
            path: KeyPath = ()
            self.places[path] = Place(*mark, *mark, text)
        elif isinstance(top.value, dict):
            assert top.key is not None
            path = (*top.path, top.key)
            top.value[top.key] = value
            self.places[path] = Place(*mark, *top.key_mark, text)
            top.key = None
        else:
            path = (*top.path, len(top.value))
            top.value.append(value)
            self.places[path] = Place(*mark, *mark, text)
        return path

    def _value(self, event: yaml.NodeEvent) -> tuple[Any, str | None]:
        """The value of a node, and its text where it is an unquoted word."""
        if isinstance(event, yaml.MappingStartEvent):
            return {}, None
        if isinstance(event, yaml.SequenceStartEvent):
            return [], None
        if not isinstance(event, yaml.ScalarEvent):
            return None, None
        text = str(event.value)
        if event.style not in (None, ""):
            return text, None
        try:
            return (self.word(text) if text else None), text
        except ValueError as error:
            self._complain(str(error), _mark(event))
            return text, text

    def _complain(self, message: str, mark: tuple[int, int], path: KeyPath = ()) -> None:
        self.problems.append(FileProblem(self.file, message, spell(path), *mark))


def _events(text: str) -> Iterator[yaml.Event]:
    return iter(yaml.parse(text, Loader=_LOADER))


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1, mark.column + 1


def _wording(error: yaml.YAMLError, text: str, file: str) -> FileProblem:
    """A parser's complaint in words that name the mend where the cause is a usual one."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return FileProblem(file, f"is no YAML: {getattr(error, 'reason', error)}")
    said = str(getattr(error, "problem", error))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    character = line[mark.column : mark.column + 1]
    if "cannot start any token" in said and "\t" in line[: mark.column + 1]:
        said = "a tab stands here; indent with spaces"
    elif "cannot start any token" in said:
        said = f"a value cannot start with {character!r}; put it in quotes"
    elif "mapping values are not allowed" in said:
        said = "a colon is not expected here; check the indentation, or put the value in quotes"
    else:
        opened = getattr(error, "context_mark", None)
        since = f" ({error.context}, line {opened.line + 1})" if opened else ""  # type: ignore[attr-defined]
        said = f"is no YAML: {said}{since}"
    return FileProblem(file, said, "", mark.line + 1, mark.column + 1)
