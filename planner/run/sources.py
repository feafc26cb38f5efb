"""Sources: who a node gets blobs from, other nodes first and whoever asked for them last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from planner.core.errors import RunError
from planner.run.frames import PeerLostError
from planner.run.identity import Keys
from planner.run.messages import ANSWER, Blob, Fetch, Source
from planner.run.stream import Stream, call

_DATA_S = 30.0
"""How long a sender of weights may be silent."""


class NoBlobError(RunError):
    """A blob that somebody does not have."""


@dataclass(slots=True)
class Sources:
    """Other nodes, and the connection to whoever asked for the weights."""

    others: list[Source]
    asker: Stream
    keys: Keys | None

    def fetch(self, digest: str, offset: int) -> Iterator[bytes]:
        """A blob's bytes from an offset on, from the first who has it.

        Where a node breaks off the next one goes on; it is not asked again, nor is one that does
        not answer. Raises RunError where nobody is left.
        """
        for source in list(self.others):
            try:
                with contextlib.closing(call(source, self.keys)) as peer:
                    for data in _pull(peer, digest, offset):
                        offset += len(data)
                        yield data
                return
            except NoBlobError:
                continue
            except RunError:
                self.others.remove(source)
        yield from _pull(self.asker, digest, offset)


def _pull(stream: Stream, digest: str, offset: int) -> Iterator[bytes]:
    """A blob's bytes from an offset on; raises RunError if the other end does not have it."""
    stream.send(Fetch(what="fetch", digest=digest, offset=offset))
    answer = stream.read(ANSWER, _DATA_S)
    if not isinstance(answer, Blob):
        raise NoBlobError(f"nobody has the weights {digest[:12]}")
    left = answer.size - offset
    while left > 0:
        stream.sock.settimeout(_DATA_S)
        try:
            data = stream.sock.recv(min(left, 2**18))
        except OSError as error:
            raise PeerLostError(f"weights stopped coming: {error}") from None
        if not data:
            raise PeerLostError("weights stopped coming")
        left -= len(data)
        yield data
