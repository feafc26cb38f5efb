"""Building values of core from documents, every problem told at its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from planner.core.errors import FileProblem
from planner.core.units import FROM_FILE
from planner.files.document import Document, KeyPath, holds, refuse
from planner.files.keys import did_you_mean, keys_at

M = TypeVar("M", bound=BaseModel)
Details = dict[str, Any]
"""One of pydantic's findings: type, loc, msg, input and perhaps ctx."""

_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", type(None): "nothing"}
_WANTED = {
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "dict_type": "keys and values",
    "tuple_type": "a list",
    "list_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "date_type": "a date like 2026-08-21",
    "date_parsing": "a date like 2026-08-21",
    "date_from_datetime_parsing": "a date like 2026-08-21",
    "date_from_datetime_inexact": "a date like 2026-08-21",
}
_QUOTED = re.compile(r"'([^']*)'")
_LONGEST = 60


def build(
    model: type[M], document: Document, path: KeyPath = (), extra: Mapping[str, Any] | None = None
) -> M:
    """The value of type ``model`` at ``path``; raises InvalidFileError with all its problems.

    ``extra`` are keys that stand for what the file itself does not say, such as its own name.
    """
    value, problems = attempt(model, document, path, extra)
    refuse(problems)
    assert value is not None
    return value


def attempt(
    model: type[M], document: Document, path: KeyPath = (), extra: Mapping[str, Any] | None = None
) -> tuple[M | None, list[FileProblem]]:
    """The value at ``path``, or None and what is wrong with it, in the order of the file."""
    given = document.at(path)
    if extra and isinstance(given, dict):
        given = {**given, **extra}
    try:
        return model.model_validate(given, context={FROM_FILE: True}), []
    except ValidationError as error:
        return None, explain(error, model, document, path, given)


def explain(
    error: ValidationError, model: type[BaseModel], document: Document, path: KeyPath, given: Any
) -> list[FileProblem]:
    """Everything pydantic found wrong with ``given``, at its place and in the file's order."""
    errors: list[Details] = [dict(one) for one in error.errors(include_url=False)]
    errors = [one for one in errors if not _follows(one)]
    details = _without_other_branches(errors, given)
    problems = {_problem(one, model, document, path, given) for one in details}
    return sorted(problems, key=_order)


def _order(problem: FileProblem) -> tuple[int, int, str, str]:
    return problem.line or 0, problem.column or 0, problem.path, problem.message


def _follows(error: Details) -> bool:
    """Whether a list only counts as empty because what is in it is wrong."""
    return error["type"] == "too_short" and bool(error["input"])


def _problem(
    error: Details, model: type[BaseModel], document: Document, base: KeyPath, given: Any
) -> FileProblem:
    location = error["loc"]
    path, kind = base + _walk(given, location), error["type"]
    if kind == "extra_forbidden":
        word = str(location[-1])
        known = keys_at(model, location[:-1])
        guess = did_you_mean(word, known) or f"; known here: {', '.join(known)}"
        return document.problem(path, f"unknown key{guess}", key=True)
    if kind == "missing":
        return document.problem((*path, location[-1]), "is missing")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        key = str(error["ctx"]["discriminator"]).strip("'")
        known = _QUOTED.findall(str(error["ctx"].get("expected_tags", "")))
        if kind == "union_tag_not_found":
            return document.problem((*path, key), "is missing; it says which keys may follow")
        tag = str(error["ctx"]["tag"])
        return document.problem((*path, key), _not_among(tag, known))
    return document.problem(path, _message(error, document.text(path)))


def _message(error: Details, text: str | None) -> str:
    """What is wrong with one value, in words for people."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    expected = str(context.get("expected", ""))
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind == "literal_error":
        return _not_among(str(value), _QUOTED.findall(expected) or [expected])
    if kind == "string_type" and isinstance(value, (int, float)):
        return f'must be text: put it in quotes, "{text or value}"'
    if kind == "string_type":
        return f"must be text, not {_named(value)}"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_named(value)}"
    if kind == "string_pattern_mismatch":
        return f"{_named(value)} must be letters and digits, and . _ - after the first"
    if kind == "finite_number":
        return f"{value} is not a finite number"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "too_long":
        return f"has more than {context['max_length']} entries"
    bounds = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le"}
    words = {"ge": "at least", "gt": "above", "le": "at most"}
    if kind in bounds:
        bound = context[bounds[kind]]
        limit = f"{bound:g}" if isinstance(bound, float) else str(bound)
        return f"must be {words[bounds[kind]]} {limit}, not {value}"
    said = str(error["msg"])
    return said[:1].lower() + said[1:]


def _walk(given: Any, location: tuple[int | str, ...]) -> KeyPath:
    """The part of pydantic's location that exists in the file; names of branches drop out."""
    path: list[int | str] = []
    for part in location:
        if holds(given, part):
            given = given[part]
            path.append(part)
    return tuple(path)


def _without_other_branches(errors: list[Details], given: Any) -> list[Details]:
    """Errors less those of a union's branches that the value was never meant to be.

    Where a value may be a number or a list, pydantic reports both failures. The branch whose
    errors lie deepest in the file is the one that was meant; of equally deep ones the first stays.
    """
    depth: dict[KeyPath, int] = {}
    chosen: dict[KeyPath, int | str] = {}
    for error in errors:
        fork, branch = _fork(given, error["loc"])
        if branch is None:
            continue
        deep = len(_walk(given, error["loc"])) + (error["type"] == "missing")
        if fork not in chosen or deep > depth[fork]:
            depth[fork], chosen[fork] = deep, branch
    kept = []
    for error in errors:
        fork, branch = _fork(given, error["loc"])
        if branch is None or chosen[fork] == branch:
            kept.append(error)
    return kept


def _fork(given: Any, location: tuple[int | str, ...]) -> tuple[KeyPath, int | str | None]:
    """Where a location leaves the file for the name of a union's branch, and that name."""
    path: list[int | str] = []
    for index, part in enumerate(location):
        if not holds(given, part):
            last = index == len(location) - 1
            named = not isinstance(part, int) and not (last and isinstance(given, dict))
            return tuple(path), part if named else None
        given = given[part]
        path.append(part)
    return tuple(path), None


def _not_among(word: str, known: list[str]) -> str:
    guess, choices = did_you_mean(word, known), ", ".join(known)
    return f"{word!r} is unknown{guess} (choose from {choices})"


def _named(value: Any) -> str:
    """A value, or its kind where it is no single word."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value}"
    if isinstance(value, str) and value:
        return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "...")
    return _KINDS.get(type(value), "this")
