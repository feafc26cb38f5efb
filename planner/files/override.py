"""``--set PATH=VALUE``: one value of a scenario or of a planned problem, changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from planner.core.errors import InvalidFileError, UsageError
from planner.core.problem import Problem
from planner.files.document import Document, KeyPath, spell
from planner.files.keys import did_you_mean
from planner.files.validate import explain
from planner.files.yamlfile import parse_argument

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_FORM = "write PATH=VALUE, such as workload.arrivals.concurrency=8 or nodes[0].region=eu"
_MOVED = {
    "nodes": ("cluster", "nodes"),
    "links": ("cluster", "links"),
    "coordinator": ("cluster", "coordinator"),
    "objective": ("requirements", "objective"),
    "must_have": ("requirements", "must_have"),
    "nice_to_have": ("requirements", "nice_to_have"),
}
"""Where a problem keeps what a scenario has at its top."""


def override(document: Document, arguments: Iterable[str]) -> None:
    """Changes values of a document in place; raises UsageError for a path that leads nowhere."""
    for argument in arguments:
        parts, value = _split(argument)
        path = _put(document.value, parts, value, argument)
        document.overridden[path] = f"--set {argument}"


def override_problem(problem: Problem, arguments: Sequence[str]) -> Problem:
    """The problem with values changed; raises UsageError.

    Paths are those of the problem; keys that a scenario has at its top may be named as there.
    """
    if not arguments:
        return problem
    values = problem.model_dump(mode="json", by_alias=True)
    for argument in arguments:
        parts, value = _split(argument)
        if isinstance(parts[0], str) and parts[0] in _MOVED:
            parts = (*_MOVED[parts[0]], *parts[1:])
        _put(values, parts, value, argument)
    try:
        return Problem.model_validate(values)
    except ValidationError as error:
        document = Document("--set " + " ".join(arguments), values, {})
        said = explain(error, Problem, document, (), values)
        raise UsageError("\n".join(str(one) for one in said)) from None


def _split(argument: str) -> tuple[KeyPath, Any]:
    """Path and value of an argument; words of the value stay text, so that units are asked for."""
    spelled, equals, text = argument.partition("=")
    parts = [(int(index) if index else key) for key, index in _PART.findall(spelled)]
    if not equals or not parts or spell(tuple(parts)) != spelled:
        raise UsageError(f"--set {argument}: not understood", _FORM)
    try:
        return tuple(parts), parse_argument(text, f"--set {argument}")
    except InvalidFileError as error:
        raise UsageError(error.message, _FORM) from None


def _put(values: dict[str, Any], parts: KeyPath, value: Any, argument: str) -> KeyPath:
    """Puts ``value`` at the path and returns it, with indices for the ids of list entries."""
    path: list[str | int] = []
    inside: Any = values
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        key = _key(inside, part, tuple(path), argument)
        path.append(key)
        if last:
            inside[key] = value
        elif isinstance(inside, dict) and inside.get(key) is None:
            inside[key] = {}
        inside = inside[key]
    return tuple(path)


def _key(inside: Any, part: str | int, path: KeyPath, argument: str) -> str | int:
    """The key or index that ``part`` means; raises UsageError."""
    at = spell(path) or "the file"
    if isinstance(inside, dict):
        return str(part)
    if not isinstance(inside, list):
        raise UsageError(f"--set {argument}: {at} is a single value, it has no {part!r}", _FORM)
    if isinstance(part, int):
        if part < len(inside):
            return part
        raise UsageError(f"--set {argument}: {at} has {len(inside)} entries, counted from 0")
    ids = [str(entry.get("id")) if isinstance(entry, dict) else "" for entry in inside]
    if part in ids:
        return ids.index(part)
    guess = did_you_mean(part, [one for one in ids if one])
    raise UsageError(f"--set {argument}: {at} has no entry {part!r}{guess}", _FORM)
