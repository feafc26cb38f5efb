"""Names, digests and places of weights that try to lead out of the weights root."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.core.errors import RunError
from planner.run.blobs import Blob, Pieces, digest_of, list_pieces, recipes
from planner.run.checkpoint import open_checkpoint
from planner.run.frames import FrameError, control
from planner.run.messages import REQUEST, parse
from planner.run.seeded import make_checkpoint
from planner.run.store import BadDigestError, Store
from tests.run.world import spec

SECRET = b"a secret outside of the weights root"

PARTS = [
    "..",
    ".",
    "",
    "/",
    "//",
    "~",
    "~root",
    "C:",
    "\\",
    "..\\..",
    "%2e%2e",
    "..%2f",
    "\u2024\u2024",
]
ENDS = [
    "secret", "/secret", "etc/passwd", "blobs", "models", "epochs.json", "secret\x00.safetensors",
    "secret\n", "secret ", "..;/secret", "secret/.", "nul",
]  # fmt: skip
NAMES = [
    *(f"{part}/{end}" for part, end in itertools.product(PARTS, ENDS)),
    *(f"{'../' * depth}secret" for depth in range(1, 20)),
    *PARTS,
    "blobs",
    "models",
    ".hidden",
    "-rf",
    "a" * 129,
    "name\r",
    "n\u00e4me",
    "name\u202e",
    "file:///secret",
    "http://example/secret",
    "\\\\host\\share",
    "CON:",
]
DIGESTS = [
    *NAMES,
    "0" * 63,
    "0" * 65,
    "g" * 64,
    "A" * 64,
    "0" * 63 + "\n",
    "0" * 62 + "..",
    "sha256:" + "0" * 64,
    "\uff10" * 64,
    "../" + "0" * 61,
    "0" * 64 + "/..",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "root").mkdir()
    return Store(tmp_path / "root")


def nothing(digest: str, offset: int) -> Iterator[bytes]:
    raise RunError("nobody has it")


def everything(store: Store) -> list[str]:
    """All that is in the root and beside it."""
    return sorted(str(path.relative_to(store.root.parent)) for path in store.root.parent.rglob("*"))


def test_there_are_enough_of_them() -> None:
    assert len(set(NAMES)) + len(set(DIGESTS)) >= 350


@pytest.mark.parametrize("digest", sorted(set(DIGESTS)), ids=ascii)
def test_a_digest_that_is_none_becomes_no_path(store: Store, digest: str) -> None:
    before = everything(store)
    with pytest.raises(RunError):
        store.open(digest)
    with pytest.raises(RunError):
        store.ready(digest, [(0, 1)], "model", nothing)
    with pytest.raises(FrameError):
        parse(REQUEST, control({"what": "fetch", "digest": digest, "offset": 0}))
    assert everything(store) == before


@pytest.mark.parametrize("name", sorted(set(NAMES)), ids=ascii)
def test_a_checkpoint_that_is_no_name_becomes_no_path(store: Store, name: str) -> None:
    pieces = Pieces(layers=1, tied=False, blobs=())
    (store.root / "blobs" / pieces.digest).write_bytes(pieces.text)
    before = everything(store)
    with pytest.raises(RunError, match="no name of a checkpoint"):
        store.ready(pieces.digest, [(0, 1)], name, nothing)
    message = {
        "what": "prepare",
        "warrant": "{}",
        "signature": "0" * 128,
        "checkpoint": name,
        "sources": [],
    }
    if name not in ("blobs", "models"):
        with pytest.raises(FrameError):
            parse(REQUEST, control(message))
    assert everything(store) == before


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", ".x", "", "x\x00", "x" * 200])
def test_a_piece_whose_name_is_none_is_no_piece(store: Store, name: str) -> None:
    text = Pieces(layers=1, tied=False, blobs=()).text
    data = text.replace(b'"blobs":[]', b'"blobs":[{"name":%s,"digest":"%s","size_bytes":1}]' % (
        repr(name).replace("'", '"').replace("\\x", "\\u00").encode(), b"0" * 64
    ))  # fmt: skip
    digest = digest_of(data)
    (store.root / "blobs" / digest).write_bytes(data)
    with pytest.raises(BadDigestError):
        store.ready(digest, [(0, 1)], "model", nothing)


@pytest.mark.parametrize("where", ["blob", "part", "checkpoint", "file", "hard name"])
def test_symbolic_links_are_not_followed(store: Store, tmp_path: Path, where: str) -> None:
    made = make_checkpoint(tmp_path / "elsewhere", spec(), dtype="fp32")
    opened = open_checkpoint(made)
    pieces, how = list_pieces(opened), recipes(opened)
    by_digest = {blob.digest: how[blob.name] for blob in pieces.blobs}

    def fetch(digest: str, offset: int) -> Iterator[bytes]:
        if digest == pieces.digest:
            yield pieces.text[offset:]
        else:
            yield from by_digest[digest].chunks(offset)

    blob = pieces.needed([(0, 1)])[0]
    target = tmp_path / "target"
    target.write_bytes(SECRET)
    if where == "blob":
        (store.root / "blobs" / blob.digest).symlink_to(target)
    elif where == "part":
        (store.root / "blobs" / f"{blob.digest}.part").symlink_to(target)
    elif where == "checkpoint":
        (store.root / "model").symlink_to(made)
    elif where == "file":
        (store.root / "model").mkdir()
        for path in made.iterdir():
            (store.root / "model" / path.name).symlink_to(path)
    else:
        folder = store.root / "models" / pieces.digest
        folder.mkdir()
        (folder / "config.json").symlink_to(target)
    try:
        ready = store.ready(pieces.digest, [(0, 1)], "model", fetch)
    except (RunError, OSError):
        ready = None
    assert target.read_bytes() == SECRET
    if ready is not None:
        assert ready.directory.is_relative_to(store.root)
        assert not any(path.is_symlink() for path in ready.directory.iterdir())
    if where == "blob":
        assert ready is not None
        assert not (store.root / "blobs" / blob.digest).is_symlink()


def test_a_linked_blob_is_not_given_away(store: Store, tmp_path: Path) -> None:
    digest = digest_of(SECRET)
    (store.root / "blobs" / digest).symlink_to(tmp_path / "secret")
    with pytest.raises(RunError):
        store.open(digest)


@pytest.mark.parametrize("change", ["shorter", "other", "endless", "empty"])
def test_bytes_that_are_not_their_digest(store: Store, change: str) -> None:
    good = os.urandom(5000)
    blob = Blob(name="config.json", digest=digest_of(good), size_bytes=len(good))
    pieces = Pieces(layers=1, tied=False, blobs=(blob,))
    (store.root / "blobs" / pieces.digest).write_bytes(pieces.text)
    bad = {
        "shorter": [good[:-1]],
        "other": [good[:-1] + bytes([good[-1] ^ 1])],
        "endless": itertools.repeat(bytes(2**16), 10_000),
        "empty": [],
    }[change]
    given: list[int] = []

    def fetch(digest: str, offset: int) -> Iterator[bytes]:
        for chunk in bad:
            given.append(len(chunk))
            yield chunk

    with pytest.raises(BadDigestError):
        store.ready(pieces.digest, [(0, 1)], "model", fetch)
    assert sum(given) <= 5000 + 2**16
    assert [path.name for path in (store.root / "blobs").iterdir()] == [pieces.digest]


def test_what_comes_after_a_piece_is_not_kept(store: Store) -> None:
    good = os.urandom(5000)
    blob = Blob(name="config.json", digest=digest_of(good), size_bytes=len(good))
    pieces = Pieces(layers=1, tied=False, blobs=(blob,))
    (store.root / "blobs" / pieces.digest).write_bytes(pieces.text)
    ready = store.ready(pieces.digest, [(0, 0)], "m", lambda digest, offset: iter([good, b"more"]))
    assert (ready.directory / "config.json").read_bytes() == good


def test_a_blob_that_rotted_is_fetched_anew(store: Store) -> None:
    good = b"{}" * 100
    blob = Blob(name="config.json", digest=digest_of(good), size_bytes=len(good))
    pieces = Pieces(layers=1, tied=False, blobs=(blob,))
    (store.root / "blobs" / pieces.digest).write_bytes(pieces.text)
    (store.root / "blobs" / blob.digest).write_bytes(good[:-1] + b"x")
    ready = store.ready(pieces.digest, [(0, 0)], "model", lambda digest, offset: iter([good]))
    assert (ready.directory / "config.json").read_bytes() == good
