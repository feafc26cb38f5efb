"""Document: the values of a file that still know their line and column."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from planner.core.errors import FileProblem, InvalidFileError

KeyPath = tuple[str | int, ...]
"""Where a value is: keys of mappings and indices of lists, from the top of the file."""


MOST_PROBLEMS = 50


class Place(NamedTuple):
    """Line and column of a value and of its key, counted from 1."""

    line: int
    column: int
    key_line: int
    key_column: int
    text: str | None
    """The value as written, where it is an unquoted word."""


@dataclass(frozen=True, slots=True)
class Document:
    """The values of a file, and the place of each."""

    file: str
    value: dict[str, Any]
    places: dict[KeyPath, Place]
    overridden: dict[KeyPath, str] = field(default_factory=dict)
    """Values that the command line replaced, each with the argument that did."""

    def problem(self, path: KeyPath, message: str, *, key: bool = False) -> FileProblem:
        """A problem at the value of ``path`` or at its key, or at what encloses it if absent."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overridden:
                return FileProblem(self.overridden[path[:length]], message, spell(path))
        if path and path not in self.places:
            for changed, argument in self.overridden.items():
                if changed[: len(path)] == path:
                    return FileProblem(argument, message, spell(path))
        for length in range(len(path), -1, -1):
            place = self.places.get(path[:length])
            if place is not None:
                at_key = key and length == len(path)
                line = place.key_line if at_key else place.line
                column = place.key_column if at_key else place.column
                return FileProblem(self.file, message, spell(path), line, column)
        return FileProblem(self.file, message, spell(path))

    def at(self, path: KeyPath) -> Any:
        """The value of ``path``; raises LookupError."""
        value: Any = self.value
        for part in path:
            value = value[part]
        return value

    def text(self, path: KeyPath) -> str | None:
        """The value as written, where it is an unquoted word of the file."""
        place = self.places.get(path)
        return place.text if place else None


def spell(path: KeyPath) -> str:
    """``path`` as people write it: ``nodes[2].device``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def holds(values: Any, part: str | int) -> bool:
    """Whether a mapping or list of a document has something under ``part``."""
    if isinstance(values, dict):
        return part in values
    return isinstance(values, list) and isinstance(part, int) and part < len(values)


def refuse(problems: list[FileProblem], hint: str = "") -> None:
    """Raises InvalidFileError if there are problems, the first ones of a long list."""
    if len(problems) > MOST_PROBLEMS:
        left = len(problems) - MOST_PROBLEMS
        last = FileProblem(problems[0].file, f"... and {left} more problems")
        problems = [*problems[:MOST_PROBLEMS], last]
    if problems:
        raise InvalidFileError(problems, hint)
