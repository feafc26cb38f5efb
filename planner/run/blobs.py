"""Blobs: a checkpoint cut into pieces that a node can fetch, each known by its SHA-256.

There is one piece for every layer and one for each end of the model. A piece is a safetensors
file of its own with a header that follows from the tensors alone, so that it has the same bytes
whoever makes it from whichever files.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from planner.core.errors import FileProblem, InvalidFileError
from planner.run.checkpoint import EMBEDDING, FINAL_NORM, HEAD, Checkpoint, Entry
from planner.run.messages import Digest, FileName, Layer, Message, Size, canonical, digest_of

CHUNK_BYTES = 2**20
CONFIG = "config.json"
LIST_LIMIT_BYTES = 4 * 2**20
"""Largest list of pieces that is read from anybody."""
_FIRST, _LAST = "embedding", "end"


class Blob(Message):
    """One piece."""

    name: FileName
    digest: Digest
    size_bytes: Size


class Pieces(Message):
    """All pieces of a checkpoint; the digest of this very list stands for the weights."""

    layers: Layer
    tied: bool
    """Whether the last stage needs the embedding too."""
    blobs: Annotated[tuple[Blob, ...], Field(max_length=8192)]

    @property
    def text(self) -> bytes:
        """The list as it is hashed and sent."""
        return canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """What stands for the weights."""
        return digest_of(self.text)

    def needed(self, ranges: Iterable[tuple[int, int]]) -> list[Blob]:
        """The pieces that stages need, the configuration first."""
        names = names_of(self.layers, self.tied, ranges)
        return [blob for blob in self.blobs if blob.name in names]


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, or those given."""

    path: Path | None
    offset: int
    size_bytes: int
    given: bytes = b""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a piece is made of."""

    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Of the whole piece."""
        return sum(part.size_bytes for part in self.parts)

    def chunks(self, offset: int = 0) -> Iterator[bytes]:
        """The piece's bytes from ``offset`` on, in chunks; raises OSError."""
        for part in self.parts:
            skipped = min(offset, part.size_bytes)
            offset -= skipped
            if skipped == part.size_bytes:
                continue
            if part.path is None:
                yield part.given[skipped:]
                continue
            with part.path.open("rb") as file:
                file.seek(part.offset + skipped)
                left = part.size_bytes - skipped
                while left and (data := file.read(min(CHUNK_BYTES, left))):
                    left -= len(data)
                    yield data
            if left:
                raise OSError(f"{part.path} became shorter")

    def digest(self) -> str:
        """SHA-256 of the piece."""
        running = hashlib.sha256()
        for chunk in self.chunks():
            running.update(chunk)
        return running.hexdigest()


def names_of(layers: int, tied: bool, ranges: Iterable[tuple[int, int]]) -> set[str]:
    """Names of the pieces that stages of a model need, the configuration included."""
    names = {CONFIG}
    for start, stop in ranges:
        names |= {_layer(index) for index in range(start, min(stop, layers))}
        last = stop >= layers
        names |= {_FIRST} if start == 0 or (last and tied) else set()
        names |= {_LAST} if last else set()
    return names


def recipes(checkpoint: Checkpoint) -> dict[str, Recipe]:
    """How to make each piece of a checkpoint that is there, by its name."""
    names: dict[str, list[str]] = {}
    for name in sorted(checkpoint.entries):
        if name == EMBEDDING:
            names.setdefault(_FIRST, []).append(name)
        elif name in (FINAL_NORM, HEAD):
            names.setdefault(_LAST, []).append(name)
        elif name.startswith("model.layers.") and (index := name.split(".")[2]).isdecimal():
            names.setdefault(_layer(int(index)), []).append(name)
    config = checkpoint.directory / CONFIG
    made = {CONFIG: Recipe((Part(config, 0, config.stat().st_size),))}
    for piece, tensors in names.items():
        made[piece] = _recipe([(name, checkpoint.entries[name]) for name in tensors])
    return made


def list_pieces(checkpoint: Checkpoint) -> Pieces:
    """Reads a whole checkpoint and lists its pieces with their digests; InvalidFileError."""
    try:
        blobs = [
            Blob(name=name, digest=recipe.digest(), size_bytes=recipe.size_bytes)
            for name, recipe in sorted(recipes(checkpoint).items())
        ]
    except OSError as error:
        raise InvalidFileError([FileProblem(str(checkpoint.directory), str(error))]) from None
    config = checkpoint.config
    return Pieces(layers=config.layers, tied=config.tied, blobs=tuple(blobs))


def _layer(index: int) -> str:
    return f"layer-{index:05}"


def _recipe(tensors: list[tuple[str, Entry]]) -> Recipe:
    """A safetensors file of some tensors: a header, then their bytes as they are."""
    header, begin = {}, 0
    for name, entry in tensors:
        header[name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [begin, begin + entry.size_bytes],
        }
        begin += entry.size_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    parts = [Part(None, 0, len(head), head)]
    parts += [Part(entry.path, entry.offset, entry.size_bytes) for _, entry in tensors]
    return Recipe(tuple(parts))
