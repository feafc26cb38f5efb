"""Names people write for devices, models and schemes -> ids of cards; never a guess.

Two names are the same when they differ in case, punctuation, the maker's name or, for a model,
its publisher and the word for a tuned version. Whatever else means a card is listed in
``aliases.yaml`` of a profiles folder. A size of memory must be that of the card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from planner.core.device import Device
from planner.core.errors import FileProblem, InvalidFileError
from planner.files.catalogue import Catalogue, Kind
from planner.files.yamlfile import read_yaml

ALIASES = "aliases.yaml"
_MAKERS = {"nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "apple", "intel", "openai"}
_TUNED = {"instruct", "it", "chat", "hf", "base"}
_MEMORY = re.compile(r"^(\d+)(gb|gib)$")
_UNIFIED = {"apple", "apple_ultra", "amd_apu", "cpu", "nvidia_gb10"}
_NATIVE_MXFP4 = "gpt-oss"
_NARROW = {"fp4", "fp8", "mxfp4", "bf16", "ud-q4_k_xl"}
_GGUF_ENGINES = ("llama.cpp", "ollama")
_GGUF = {"mxfp4": "mxfp4-gguf"}
_NEAR = 0.1
"""Share by which 24 GB may differ from a card's 24 GiB."""


def resolve(known: Catalogue, kind: Kind, name: str) -> str | None:
    """The id of the card that ``name`` means; None where it means none."""
    if known.find(kind, name) is not None:
        return name
    ids = {_joined(_words(kind, one)): one for one in known.names(kind)}
    for folder in reversed(known.folders):
        ids |= {
            _joined(_words(kind, alias)): one
            for alias, one in aliases(folder / ALIASES).get(kind, {}).items()
        }
    words = _words(kind, name)
    if _joined(words) in ids:
        return ids[_joined(words)]
    if kind == "devices" and words and (size := _MEMORY.match(words[-1])):
        found = ids.get(_joined(words[:-1]))
        return found if found and _holds(known, found, int(size[1])) else None
    return None


def scheme_of(known: Catalogue, name: str, model_id: str, engine: str) -> str | None:
    """The id of a scheme; a model that is published in MXFP4 stays in it, whatever is written."""
    if model_id.startswith(_NATIVE_MXFP4) and name.casefold() in _NARROW:
        name = "mxfp4"
    found = resolve(known, "quants", name)
    return (
        _GGUF.get(found, found)
        if found and any(one in engine.casefold() for one in _GGUF_ENGINES)
        else found
    )


def aliases(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Other names by kind; none where there is no such file. Raises InvalidFileError."""
    if not path.is_file():
        return {}
    document = read_yaml(path)
    problems = []
    for kind, table in document.value.items():
        if not isinstance(table, dict):
            problems.append(document.problem((kind,), "write one NAME: ID per line below it"))
            continue
        problems += [
            document.problem((kind, name), "must be the id of a card")
            for name, one in table.items()
            if not isinstance(one, str)
        ]
    if problems:
        raise InvalidFileError(problems)
    return document.value


def unknown(known: Catalogue, kind: Kind, name: str, place: FileProblem) -> FileProblem:
    """``place`` with what is wrong there: a name that no card has."""
    message, _ = known.missing(kind, name)
    return FileProblem(place.file, message, place.path, place.line, place.column)


def _words(kind: Kind, name: str) -> list[str]:
    text = name.casefold()
    if kind == "models":
        text = text.rsplit("/", 1)[-1]
    dropped = _TUNED if kind == "models" else set()
    words = [word for word in re.split(r"[^a-z0-9.]+", text) if word]
    return [word for word in words if word not in _MAKERS | dropped]


def _joined(words: list[str]) -> str:
    return "".join(words)


def _holds(known: Catalogue, device_id: str, gigabytes: int) -> bool:
    device, _ = known.get("devices", device_id)
    if not isinstance(device, Device):
        return False
    if device.device_class in _UNIFIED:
        return True
    return abs(device.memory_bytes / (gigabytes * 2**30) - 1) <= _NEAR
