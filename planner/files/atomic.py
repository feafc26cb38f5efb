"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from planner.core.errors import FileProblem, InvalidFileError


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` in one step; raises InvalidFileError and changes nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """The same with bytes.

    They go to a new file beside it, are forced to disk and then take the name.
    """
    with _told(path):
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)


def check_writable(path: Path) -> None:
    """Raises InvalidFileError where it is known beforehand that ``path`` cannot be written."""
    with _told(path):
        folder = next(one for one in _target(path).absolute().parents if one.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _target(path: Path) -> Path:
    """The file that is replaced, links followed."""
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file():
        kind = "a directory" if target.is_dir() else "no ordinary file"
        raise InvalidFileError([FileProblem(str(path), f"is {kind}, so it is not replaced")])
    return target


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Has what goes wrong with a file told as InvalidFileError."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = FileProblem(str(path), f"cannot be written: {reason}")
        raise InvalidFileError([problem], "nothing was written; name another file") from None


def _replace(target: Path, data: bytes) -> None:
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            made.chmod(target.stat().st_mode & 0o7777)
        made.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            made.unlink()
        raise
