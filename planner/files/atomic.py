"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from planner.core.errors import FileProblem, InvalidFileError


def write_text(path: Path, text: str) -> None:
    """Replaces ``path`` by ``text`` in one step; raises InvalidFileError and changes nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """The same with bytes.

    They go to a new file beside it, are forced to disk and then take the name.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():
            kind = "a directory" if target.is_dir() else "no ordinary file"
            raise InvalidFileError([FileProblem(str(path), f"is {kind}, so it is not replaced")])
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)
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
