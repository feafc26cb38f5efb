"""Which keys a mapping of a file may have, so that a misspelt one can be answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo


def written(name: str, info: FieldInfo) -> str:
    """The spelling of a field that people use: its alias where it has one."""
    if info.alias:
        return info.alias
    choices = info.validation_alias
    first = choices.choices[0] if isinstance(choices, AliasChoices) else choices
    return first if isinstance(first, str) else name


def keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that the mapping at ``location`` (as pydantic reports it) may have."""
    annotations: list[Any] = [model]
    for part in location:
        annotations = [after for one in annotations for after in _step(one, part)]
    found: dict[str, None] = {}
    for annotation in annotations:
        for member in _members(annotation):
            if _is_model(member):
                found |= dict.fromkeys(written(*field) for field in member.model_fields.items())
    return list(found)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    meant, choices = _plain(word), {_plain(choice): choice for choice in known}
    close = difflib.get_close_matches(meant, choices, n=1, cutoff=0.6)
    enough = len(meant) > 2
    ending = [choice for choice in choices if enough and choice.endswith(f"-{meant}")]
    longer = [choice for choice in choices if enough and choice.startswith(meant)]
    found = meant if meant in choices else next(iter(ending or close or longer), None)
    return choices[found] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where something near is known, else nothing."""
    found = nearest(word, known)
    return f"; did you mean {found}?" if found else ""


def _plain(word: str) -> str:
    return word.casefold().replace("_", "-").replace(" ", "-")


def _step(annotation: Any, part: str | int) -> list[Any]:
    """What may stand under ``part`` of a value of that type."""
    members = _members(annotation)
    tagged = [one for one in members if _is_model(one) and part in _tags(one)]
    if tagged:
        return tagged
    found: list[Any] = []
    for member in members:
        origin, arguments = get_origin(member), get_args(member)
        if _is_model(member):
            found += [
                info.annotation
                for name, info in member.model_fields.items()
                if part in (name, written(name, info))
            ]
        elif origin in (tuple, list) and isinstance(part, int):
            rest = [one for one in arguments if one is not Ellipsis]
            found.append(rest[min(part, len(rest) - 1)])
        elif origin is dict:
            found.append(arguments[1])
    return found or members


def _members(annotation: Any) -> list[Any]:
    """The alternatives of a type, without the wrappers around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [inner for one in get_args(annotation) for inner in _members(one)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """Values of the ``kind`` that tells this model from its siblings."""
    info = model.model_fields.get("kind")
    if info is None or get_origin(info.annotation) is not Literal:
        return ()
    return get_args(info.annotation)
