"""History: what was sent to the next stage, kept so that another node can compute it again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.run.frames import Frame, Kind, Seat

Cached = tuple[int, int, int]
"""Slot, session and the tokens that the slot should hold of it."""


class _Part(NamedTuple):
    """Some tokens of one sequence within a frame."""

    seat: Seat
    tokens: int
    frame: Frame
    row: int


@dataclass(slots=True)
class _Sequence:
    """What was sent for the sequence that has a slot, in order of position."""

    session: int
    parts: list[_Part] = field(default_factory=list)


class History:
    """Frames that went to a stage for the sequences that have a seat.

    A frame is held as long as one of its sequences is. What is sent for a position that was sent
    before replaces it, so a step that was repeated counts once.
    """

    def __init__(self) -> None:
        self._slots: dict[int, _Sequence] = {}

    def note(self, frame: Frame) -> None:
        """Keeps a frame."""
        row = 0
        for seat in frame.seats:
            held = self._slots.get(seat.slot)
            if held is None or held.session != seat.session:
                held = self._slots[seat.slot] = _Sequence(seat.session)
            while held.parts and held.parts[-1].seat.position >= seat.position:
                held.parts.pop()
            if held.parts:
                held.parts[-1] = _clipped(held.parts[-1], seat.position)
            held.parts.append(_Part(seat, seat.tokens, frame, row))
            row += seat.tokens

    def replay(self, live: Iterable[Cached], as_sent: bool) -> list[Frame]:
        """Frames that fill an empty cache with what it should hold.

        One prompt per session, or, ``as_sent``, the very frames that went out: slower, and the
        only way to the same rounding.
        """
        wanted = []
        for slot, session, tokens in live:
            held = self._slots.get(slot)
            if held is not None and held.session == session:
                parts = [_clipped(part, tokens) for part in held.parts]
                wanted.append([part for part in parts if part.tokens > 0])
        if as_sent:
            frames = {part.frame.job: part.frame for parts in wanted for part in parts}
            return [frames[job]._replace(replay=True) for job in sorted(frames)]
        return [_joined(parts) for parts in wanted if parts]


def _clipped(part: _Part, tokens: int) -> _Part:
    """What of a part lies within the first ``tokens`` positions."""
    return part._replace(tokens=min(part.tokens, tokens - part.seat.position))


def _joined(parts: list[_Part]) -> Frame:
    """One sequence's rows as a single prompt."""
    first = parts[0].frame
    size = len(memoryview(first.payload).cast("B")) // first.rows
    rows = sum(part.tokens for part in parts)
    payload = b"".join(
        memoryview(part.frame.payload).cast("B")[part.row * size : (part.row + part.tokens) * size]
        for part in parts
    )
    seat = parts[0].seat._replace(tokens=rows)
    return Frame(Kind.PREFILL, 0, (seat,), first.dtype, rows, first.columns, payload, replay=True)
