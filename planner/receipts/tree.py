"""Tree: a Merkle tree over what crosses a boundary between stages, grown one position at a time.

Hashes are those of RFC 6962, section 2.1: a leaf is SHA-256 of 0x00 and its bytes, a node is
SHA-256 of 0x01 and its two children, so that neither can be passed off as the other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from planner.core.errors import RunError

Payload = bytes | bytearray | memoryview
_POSITION_BYTES = 4
State = tuple[int, int, list[str]]
"""Next position, leaves and peaks (hex) of a witness, as JSON carries them."""


class WitnessError(RunError):
    """A position was skipped, so that a tree would not cover what was sent."""


def leaf(
    session: str,
    boundary: int,
    position: int,
    dtype: str,
    shape: tuple[int, ...],
    payload: Payload,
) -> bytes:
    """Hash of what crosses ``boundary`` at ``position`` of a session.

    Boundary 0 carries token ids into the first stage, boundary s the hidden state between the
    stages s - 1 and s, the last one the tokens out. Both neighbours see the same bytes, so both
    compute the same leaf.
    """
    before, after = _around(session, boundary, dtype, shape)
    place = position.to_bytes(_POSITION_BYTES, "little")
    return sha256(b"".join((before, place, after, payload))).digest()


@lru_cache(maxsize=4096)
def _around(session: str, boundary: int, dtype: str, shape: tuple[int, ...]) -> tuple[bytes, bytes]:
    """What stands before and after the position in a leaf: the same for all of a session."""
    name, kind = session.encode(), dtype.encode()
    dims = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return (
        b"\x00" + struct.pack("<HI", len(name), boundary),
        bytes((len(kind),)) + name + kind + dims,
    )


class Tree:
    """Leaves appended in order; holds one hash per full subtree, so O(log n) memory."""

    __slots__ = ("_peaks", "count")

    def __init__(self, peaks: Sequence[bytes] = (), count: int = 0) -> None:
        """Goes on from the ``peaks`` of ``count`` leaves; empty by default."""
        self._peaks = list(peaks)
        """Roots of the full subtrees, largest first: one per bit set in ``count``."""
        self.count = count

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """Roots of the full subtrees, largest first."""
        return tuple(self._peaks)

    def append(self, added: bytes) -> None:
        """Adds a leaf at the right."""
        carried, position = added, self.count
        while position & 1:
            carried = _node(self._peaks.pop(), carried)
            position >>= 1
        self._peaks.append(carried)
        self.count += 1

    def append_line(self, line: bytes) -> None:
        """Adds a line of a log, without its newline, as a leaf."""
        self.append(sha256(b"\x00" + line).digest())

    @property
    def root(self) -> bytes:
        """Hash over all leaves, as RFC 6962 defines it; that of no bytes if there are none."""
        if not self._peaks:
            return sha256().digest()
        *larger, folded = self._peaks
        for peak in reversed(larger):
            folded = _node(peak, folded)
        return folded


class Witness:
    """What one side of a boundary saw of a session: a tree over consecutive positions.

    A step that is sent again after a failure is the same position again and changes nothing.
    """

    __slots__ = ("_boundary", "_session", "next_position", "tree")

    def __init__(self, session: str, boundary: int, first_position: int = 0) -> None:
        self._session = session
        self._boundary = boundary
        self.next_position = first_position
        self.tree = Tree()

    def see(self, position: int, dtype: str, shape: tuple[int, ...], payload: Payload) -> bool:
        """Takes what crossed at ``position``; returns False if that was seen before.

        Raises WitnessError if positions before it are missing.
        """
        if position < self.next_position:
            return False
        if position > self.next_position:
            raise WitnessError(
                f"session {self._session}: boundary {self._boundary} went from position "
                f"{self.next_position} to {position}"
            )
        self.tree.append(leaf(self._session, self._boundary, position, dtype, shape, payload))
        self.next_position += 1
        return True

    @property
    def state(self) -> State:
        """What another process needs to go on with it."""
        return self.next_position, self.tree.count, [peak.hex() for peak in self.tree.peaks]

    @classmethod
    def restored(cls, session: str, boundary: int, state: State) -> Witness:
        """The witness that had that state; raises ValueError where none can have had it."""
        position, count, peaks = state
        if count < 0 or position < count or len(peaks) != count.bit_count():
            raise ValueError(f"no tree of {count} leaves by position {position} looks like that")
        witness = cls(session, boundary, position)
        witness.tree = Tree([bytes.fromhex(peak) for peak in peaks], count)
        return witness


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
