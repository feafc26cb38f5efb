"""Plain values -> YAML text: the same values always give the same bytes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from planner.files.scalars import resolve

WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*( [A-Za-z0-9_./+%-]+)*")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)? [A-Za-z%][A-Za-z/%]*")
_OTHER_READERS = frozenset(["y", "n", "yes", "no", "on", "off"])
"""Words that YAML 1.1 takes for truth values."""
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_yaml(values: Mapping[str, object]) -> str:
    """Block style, with what fits into a line in flow style.

    Values are mappings, lists, text, finite numbers, true, false and None. Reading the text back
    gives equal values.
    """
    return "\n".join(_block(values, 0)) + "\n"


def _block(value: object, indent: int) -> Iterator[str]:
    pad = " " * indent
    if isinstance(value, Mapping):
        for key, inner in value.items():
            start = f"{pad}{_text(str(key))}:"
            line = _flow(inner, WIDTH - len(start) - 1)
            if line is not None:
                yield f"{start} {line}"
            else:
                yield start
                yield from _block(inner, indent + 2)
    elif isinstance(value, Sequence):
        for inner in value:
            line = _flow(inner, WIDTH - indent - 2)
            if line is not None:
                yield f"{pad}- {line}"
                continue
            lines = _block(inner, indent + 2)
            yield f"{pad}- {next(lines)[indent + 2 :]}"
            yield from lines


def _flow(value: object, room: int) -> str | None:
    """``value`` in one line; None where a collection does not fit into ``room`` characters."""
    if isinstance(value, Mapping):
        parts: list[str] = []
        for key, inner in value.items():
            line = _flow(inner, room)
            if line is None:
                return None
            parts.append(f"{_text(str(key))}: {line}")
            room -= len(parts[-1]) + 2
            if room < 0:
                return None
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = []
        for inner in value:
            line = _flow(inner, room)
            if line is None:
                return None
            parts.append(line)
            room -= len(line) + 2
            if room < 0:
                return None
        return "[" + ", ".join(parts) + "]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written to a file")
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    raise TypeError(f"{type(value).__name__} cannot be written to a file")


def _text(text: str) -> str:
    """Text, in quotes unless every reader of YAML takes it for text without them."""
    plain = _PLAIN.fullmatch(text) and text.casefold() not in _OTHER_READERS
    if (plain or _QUANTITY.fullmatch(text)) and resolve(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
