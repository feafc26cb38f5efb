"""Store: the weights a node has, below one directory and nowhere else.

``blobs/`` holds pieces under their own digests, ``models/`` directories that a worker loads from,
made of links to pieces. Any other directory is a checkpoint that the operator put there. Nothing
that comes from the network becomes part of a path before it has matched a pattern without
separators, and symbolic links are not followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from planner.core.errors import InvalidFileError, RunError
from planner.run.blobs import CHUNK_BYTES, CONFIG, LIST_LIMIT_BYTES, Blob, Pieces, recipes
from planner.run.checkpoint import open_checkpoint

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EPOCHS = "epochs.json"
_SPARE_BYTES = 2**30
_TURN_S = 1.0
"""How often who waits for another's weights to be got ready says so."""
"""Left free on the disk."""

Fetch = Callable[[str, int], Iterator[bytes]]
"""Bytes of a digest's blob from an offset on; raises RunError if nobody has it."""


class BadDigestError(RunError):
    """Bytes that are not what their digest says."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Weights that a worker can load, each byte of them checked."""

    directory: Path
    found_bytes: int
    pulled_bytes: int


class Store:
    """The weights below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock = threading.Lock()
        for folder in ("blobs", "models"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def ready(
        self,
        digest: str,
        ranges: Iterable[tuple[int, int]],
        checkpoint: str,
        fetch: Fetch,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Ready:
        """Has the weights of some layers ready for a worker.

        ``digest`` is that of the list of pieces; ``checkpoint`` the directory to look in first.
        What is missing is fetched, beginning where an earlier attempt broke off. ``progress`` is
        told how far that is, and again and again while weights are checked or somebody else's are
        got ready. Raises RunError; BadDigestError if what came is not what was asked for.
        """
        while not self._lock.acquire(timeout=_TURN_S):
            progress(0, 0)
        try:
            return self._ready(digest, list(ranges), checkpoint, fetch, progress)
        finally:
            self._lock.release()

    def _ready(
        self,
        digest: str,
        ranges: list[tuple[int, int]],
        checkpoint: str,
        fetch: Fetch,
        progress: Callable[[int, int], None],
    ) -> Ready:
        pieces = self._pieces(digest, fetch)
        needed = pieces.needed(ranges)
        total = sum(blob.size_bytes for blob in needed)

        def checking() -> None:
            progress(0, total)

        local = self._local(checkpoint, needed, ranges, checking)
        if local is not None:
            progress(total, total)
            return Ready(local, total, 0)
        missing = [
            blob
            for blob in needed
            if not self._intact(self._blob(blob.digest), blob.digest, checking)
        ]
        absent = sum(blob.size_bytes for blob in missing)
        if absent > shutil.disk_usage(self.root).free - _SPARE_BYTES:
            raise RunError(f"{absent} bytes of weights do not fit on the disk")
        done = total - absent
        for blob in missing:
            for count in self._pull(blob.digest, blob.size_bytes, fetch):
                done += count
                progress(done, total)
        return Ready(self._assemble(digest, needed), total - absent, absent)

    def epoch(self, deployment: str) -> int:
        """The newest epoch that this node has seen of a deployment."""
        try:
            seen = json.loads((self.root / _EPOCHS).read_bytes())
        except FileNotFoundError:
            return 0
        return int(seen.get(deployment, 0))

    def note_epoch(self, deployment: str, epoch: int) -> None:
        """Remembers an epoch, also when the node is started anew."""
        path = self.root / _EPOCHS
        seen = json.loads(path.read_bytes()) if path.exists() else {}
        made = path.with_suffix(".tmp")
        made.write_text(json.dumps(seen | {deployment: max(epoch, self.epoch(deployment))}))
        made.replace(path)

    def open(self, digest: str) -> tuple[int, Callable[[int], Iterator[bytes]]]:
        """Size of a blob and its bytes from an offset on; raises RunError if it is not here."""
        path = self._blob(digest)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            raise RunError("no such blob") from None
        os.close(handle)
        return path.stat().st_size, lambda offset: _chunks(path, offset)

    def _blob(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise RunError("that is no digest")
        return self.root / "blobs" / digest

    def _pieces(self, digest: str, fetch: Fetch) -> Pieces:
        """The list of pieces that has a digest."""
        path = self._blob(digest)
        if not self._intact(path, digest):
            for _ in self._pull(digest, None, fetch):
                pass
        try:
            return Pieces.model_validate_json(path.read_bytes())
        except ValidationError:
            raise BadDigestError("the digest is not that of a list of pieces") from None

    def _intact(self, path: Path, digest: str, checking: Callable[[], None] = lambda: None) -> bool:
        """Whether a piece is here and still what it should be."""
        if path.is_symlink() or not path.is_file():
            return False
        running = hashlib.sha256()
        for chunk in _chunks(path, 0):
            running.update(chunk)
            checking()
        if running.hexdigest() == digest:
            return True
        path.unlink()
        return False

    def _pull(self, digest: str, size_bytes: int | None, fetch: Fetch) -> Iterator[int]:
        """Fetches a blob, yielding how many bytes more are there each time."""
        target = self._blob(digest)
        part = target.with_suffix(".part")
        limit = LIST_LIMIT_BYTES if size_bytes is None else size_bytes
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, 0o600), "r+b") as file:
            running, held = hashlib.sha256(), 0
            while data := file.read(CHUNK_BYTES):
                running.update(data)
                held += len(data)
            if held > limit:
                file.truncate(0)
                file.seek(0)
                running, held = hashlib.sha256(), 0
            yield held
            for data in fetch(digest, held) if held != size_bytes else ():
                held += len(data)
                if held > limit:
                    break
                file.write(data)
                running.update(data)
                yield len(data)
            file.flush()
            os.fsync(file.fileno())
        if running.hexdigest() != digest:
            part.unlink()
            raise BadDigestError(f"what came for {digest[:12]} is something else")
        part.replace(target)

    def _local(
        self,
        checkpoint: str,
        needed: list[Blob],
        ranges: list[tuple[int, int]],
        checking: Callable[[], None],
    ) -> Path | None:
        """The operator's own checkpoint, if it has every piece that is needed."""
        if _NAME.fullmatch(checkpoint) is None or checkpoint in ("blobs", "models"):
            raise RunError("that is no name of a checkpoint")
        folder = self.root / checkpoint
        if not ranges or not folder.is_dir() or _links(self.root, folder):
            return None
        with contextlib.suppress(InvalidFileError, OSError):
            for start, stop in ranges:
                opened = open_checkpoint(folder, range(start, stop))
            made = recipes(opened)
            for blob in needed:
                checking()
                if blob.name not in made or made[blob.name].digest() != blob.digest:
                    return None
            return folder
        return None

    def _assemble(self, digest: str, needed: list[Blob]) -> Path:
        """A directory that a worker loads from."""
        folder = self.root / "models" / digest
        folder.mkdir(exist_ok=True)
        for blob in needed:
            name = CONFIG if blob.name == CONFIG else f"{blob.name}.safetensors"
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()
            os.link(self._blob(blob.digest), folder / name, follow_symlinks=False)
        return folder


def _chunks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while data := file.read(CHUNK_BYTES):
            yield data


def _links(root: Path, folder: Path) -> bool:
    """Whether a symbolic link is among a checkpoint's files or on the way to them."""
    inside = folder.resolve()
    if inside != root / folder.name:
        return True
    return any(path.is_symlink() for path in folder.iterdir())
