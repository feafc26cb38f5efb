"""Names people write for devices, models and schemes -> ids of cards; never a guess.

Two names are the same when they differ in case, punctuation, the maker's name or, for a model,
its publisher, the word for a tuned version, the scheme it is published in and the month of its
release; for an engine, in what it was built for, and in a version that no card of a release has.
Whatever else means a card is listed in ``aliases.yaml`` of a profiles folder. A size of memory
must be that of the card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from planner.core.device import Device
from planner.core.errors import FileProblem, InvalidFileError
from planner.files.catalogue import Catalogue, Kind
from planner.files.yamlfile import read_yaml

ALIASES = "aliases.yaml"
_MAKERS = {"nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "apple", "intel", "openai"}
_TUNED = {"instruct", "it", "chat", "hf", "base", "thinking"}
_BUILD = {"cuda", "metal", "hip", "hipblaslt", "rocm", "rocwmma", "amdvlk", "radv", "sycl", "rpc"}
_SETTINGS = {"cpu", "gpu", "build", "nightly", "dev", "fa", "no", "threads", "batched", "bench"}
_BESIDE: Mapping[Kind, set[str]] = {
    "devices": {"gpu", "core", "cores", "edition", "generation", "workstation", "per"},
    "models": _TUNED,
    "engines": _BUILD | _SETTINGS,
}
"""Words that tell no card of a kind from another."""
_MEMORY = re.compile(r"^(\d+)(gb|gib)$")
_SPACED = re.compile(r"(?<=\d) (gb|gib)\b")
_MONTH = re.compile(r"^(\d{4})$")
_MOST_WORDS = 4
"""Of a scheme, such as UD-Q4_K_XL."""
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
    ids = _ids(known, kind)
    words = _words(kind, name)
    if (found := ids.get("".join(words))) or not words:
        return found
    if kind == "devices" and (size := _MEMORY.match(words[-1])):
        found = ids.get("".join(words[:-1]))
        return found if found and _holds(known, found, int(size[1])) else None
    if kind == "models":
        return ids.get("".join(_bare(known, words)))
    return _release(known, name) if kind == "engines" else None


def _named(known: Catalogue, kind: Kind) -> Iterator[tuple[str, str]]:
    """Names and aliases of a kind with the id they mean; later ones win."""
    yield from ((one, one) for one in known.names(kind))
    for folder in reversed(known.folders):
        yield from aliases(folder / ALIASES).get(kind, {}).items()


@lru_cache(maxsize=32)
def _ids(known: Catalogue, kind: Kind) -> Mapping[str, str]:
    """Ids of cards by what is left of their names; read once for a catalogue."""
    return {"".join(_words(kind, name)): one for name, one in _named(known, kind)}


def published_in(known: Catalogue, model: str) -> str | None:
    """The scheme that the name of a model's files ends in; None for the id of a card."""
    if known.find("models", model) is not None:
        return None
    words = _words("models", model)
    count = _scheme_words(known, words)
    return "_".join(words[-count:]) if count else None


def _bare(known: Catalogue, words: list[str]) -> list[str]:
    """The words of a model without the scheme it is published in and the month of its release."""
    count = _scheme_words(known, words)
    return [word for word in words[: len(words) - count] if not _MONTH.match(word)]


def _scheme_words(known: Catalogue, words: list[str]) -> int:
    """How many words at the end of a model's name are those of a scheme."""
    ids = _ids(known, "quants")
    counts = range(min(_MOST_WORDS, len(words) - 1), 0, -1)
    return next((count for count in counts if "".join(words[-count:]) in ids), 0)


def _release(known: Catalogue, name: str) -> str | None:
    """The engine of a name with a version that no card has: of the closest release, or of any.

    Only what may be a version, a date or a setting is left off: parts that have a digit.
    """
    ids = {_parts(one): found for one, found in _named(known, "engines")}
    parts = _parts(name)
    while parts and parts not in ids:
        if not any(sign.isdigit() for sign in parts[-1]):
            return None
        parts = parts[:-1]
    return ids.get(parts)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for word in _words("engines", name) for part in word.split(".") if part)


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
    dropped = _MAKERS | _BESIDE.get(kind, set())
    words = re.split(r"[^a-z0-9.=]+", _SPACED.sub(r"\1", text))
    return [word for word in words if word and word not in dropped]


def _holds(known: Catalogue, device_id: str, gigabytes: int) -> bool:
    device, _ = known.get_as("devices", device_id, Device)
    if device.device_class in _UNIFIED:
        return True
    return abs(device.memory_bytes / (gigabytes * 2**30) - 1) <= _NEAR
