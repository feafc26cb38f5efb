"""Answers: what a worker may tell its coordinator, checked before anybody acts on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from planner.run.frames import Frame, FrameError
from planner.run.messages import Digest, Layer, Message, Port

_Count = Annotated[int, Field(ge=0, le=2**63)]
_Seconds = Annotated[float, Field(ge=0.0)]
_Rate = Annotated[float, Field(gt=0.0)]
_Seen = tuple[_Count, _Count, Annotated[list[Digest], Field(max_length=64)]]
_Step = tuple[
    _Count, Literal["prefill", "decode"], _Count, _Count, _Count, _Seconds, _Seconds, _Seconds
]
"""As in ``Step``."""


class Beat(Message):
    """It lives: how long it has been at its job, its clock, and what it did since it last said."""

    beat: _Count
    busy_s: _Seconds
    clock_s: _Seconds
    did: list[_Step]


class Loaded(Message):
    """It holds the stage that it was to load, and lets callers in."""

    port: Port
    load_s: _Seconds
    weight_bytes: _Count
    cache_bytes: _Count
    kernels: dict[str, JsonValue]


class Connected(Message):
    """It sends to the next process under this epoch, or why it cannot."""

    connected: _Count
    failure: str


class Broken(Message):
    """A connection of this epoch ended before another took its place."""

    broken: _Count


class Replaying(Message):
    """So many frames are on their way once more."""

    replaying: _Count


class Replayed(Message):
    """One of them has been computed."""

    replayed: _Step


class Report(Message):
    """What it did since it last said."""

    steps: list[_Step]


class Reading(Message):
    """What its processor reaches, as ``Speeds``."""

    memory_bytes_per_s: _Rate
    flop_per_s: _Rate
    call_s: _Seconds


class Gauged(Message):
    """The reading that was asked for."""

    gauge: Reading


class Pulled(Message):
    """So many bytes of weights have come."""

    pulled: _Count


class Grief(Message):
    """What went wrong; problems are file, message and path."""

    message: str
    hint: str
    problems: list[tuple[str, str, str]]


class Failed(Message):
    """It ends."""

    error: Grief


class Signed(Message):
    """A receipt."""

    receipt: str


class Closed(Message):
    """Its last receipt of a session, if it has one, and what receipts and work took so far."""

    closed: _Count
    line: str | None
    receipts_s: _Seconds
    worked_s: _Seconds


class Seen(Message):
    """What came in or went out of sessions, by their numbers."""

    seen: dict[str, _Seen]


class Held(Message):
    """A verifier holds layers of a quantization."""

    held: tuple[Layer, Layer, str]


class Auditing(Message):
    """A verifier lets the evidence for a receipt in."""

    auditing: Digest
    port: Port


class Audited(Message):
    """A verifier's signed verdict on a receipt, and whether there was evidence."""

    audited: Digest
    line: str
    audit_s: _Seconds
    shown: bool


_Answer = (
    Beat | Connected | Broken | Replaying | Replayed | Loaded | Report | Gauged | Pulled | Failed
    | Signed | Closed | Seen | Held | Auditing | Audited
)  # fmt: skip
_ANSWER: TypeAdapter[_Answer] = TypeAdapter(
    Annotated[_Answer, Field(union_mode="left_to_right")]  # the most frequent ones first
)


def parse_answer(frame: Frame) -> dict[str, Any]:
    """An answer as it came, with all that its kind has; raises FrameError for anything else."""
    message = frame.message
    try:
        _ANSWER.validate_json(bytes(frame.payload))
    except ValidationError:
        raise FrameError("a worker sent an answer that is none") from None
    return message
