"""Log: the signed records of a deployment, one per line, as the coordinator publishes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.record import LINE_LIMIT_BYTES, Record, Reveal, Statement, sign
from planner.receipts.tree import Tree

NAME = "log.jsonl"


class Log:
    """Appends records to a file and keeps the root over its lines."""

    def __init__(self, folder: Path) -> None:
        """Starts a log in a folder; raises FileExistsError rather than write over one."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / NAME).open("xb")
        self._tree = Tree()

    def add(self, record: Record) -> Record:
        """Appends a record, which is on its way to the disk when this returns."""
        self._file.write(record.line + b"\n")
        self._file.flush()
        self._tree.append_line(record.line)
        return record

    def say(self, statement: Statement, key: Ed25519PrivateKey) -> Record:
        """Signs a statement and appends it."""
        return self.add(sign(statement, key))

    def reveal(self, epoch: int, secret: bytes, key: Ed25519PrivateKey) -> Record:
        """Ends an epoch: publishes its secret with the root over all lines so far."""
        ended = Reveal(
            epoch=epoch,
            key=secret.hex(),
            lines=self._tree.count,
            root=self._tree.root.hex(),
        )
        return self.say(ended, key)

    def close(self) -> None:
        """Waits until everything is on the disk."""
        os.fsync(self._file.fileno())
        self._file.close()


def read_lines(file: Path) -> Iterator[bytes]:
    """Lines of a log without their newlines; one that is too long comes cut, to be refused."""
    with file.open("rb") as stream:
        while line := stream.readline(LINE_LIMIT_BYTES + 2):
            yield line.removesuffix(b"\n")
