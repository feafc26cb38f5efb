"""Messages between members of a deployment, before and beside the frames of a running plan.

Every message is a small JSON object of one of these types and nothing else: unknown keys, other
types and numbers out of range are refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from planner.run.frames import Frame, FrameError, Kind, control, encode

MESSAGE_LIMIT_BYTES = 64 * 2**10
"""Largest message from a member."""
PROTOCOL: Literal[1] = 1

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
MemberId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""Of a file or directory: no separator, no leading dot."""
Port = Annotated[int, Field(ge=1, le=65535)]
Layer = Annotated[int, Field(ge=0, le=4096)]
Size = Annotated[int, Field(ge=0, le=2**50)]


class Message(BaseModel):
    """One message; strict in every respect."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class Challenge(Message):
    """A node asks whoever connected to prove who it is."""

    protocol: Literal[1]
    nonce: Digest


class Hello(Message):
    """The answer: signed over both nonces and both names, so that it is good for once."""

    nonce: Digest
    to: MemberId
    signature: Signature


class Welcome(Message):
    """The node's own proof."""

    signature: Signature


class Source(Message):
    """A member that may be connected to."""

    node: MemberId
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,255}$")]
    port: Port
    fingerprint: Digest


class Work(Message):
    """Asks for a worker; the connection then carries its orders and answers."""

    what: Literal["work"]


class Deliver(Message):
    """Leads the connection to a worker's port."""

    what: Literal["deliver"]
    port: Port


class Return(Message):
    """Asks for a port of the node that leads back here."""

    what: Literal["return"]


class Lead(Message):
    """Asks for a port of the node that leads to a worker of another node."""

    what: Literal["lead"]
    to: Source
    port: Port


class Prepare(Message):
    """Asks a node to have the weights of stages ready."""

    what: Literal["prepare"]
    warrant: Annotated[str, Field(max_length=MESSAGE_LIMIT_BYTES)]
    """What the operator signed, as JSON."""
    signature: Signature
    checkpoint: FileName
    """Directory of the weights root to look in first."""
    sources: Annotated[tuple[Source, ...], Field(max_length=64)] = ()
    """Nodes that may have the weights."""
    ranges: Annotated[tuple[tuple[Layer, Layer], ...], Field(max_length=1024)] | None = None
    """Which of the layers that the warrant gives it; all where absent."""


class Fetch(Message):
    """Asks for a blob from an offset on; its size and bytes come back."""

    what: Literal["fetch"]
    digest: Digest
    offset: Size


class Opened(Message):
    """A port that leads where it was asked to."""

    port: Port


class Begun(Message):
    """What was asked for begins on this connection."""

    begun: Literal[True] = True


class Blob(Message):
    """So many bytes follow."""

    size: Size


class Progress(Message):
    """How far a node is with the weights."""

    done_bytes: Size
    total_bytes: Size


class Prepared(Message):
    """The weights are there, every one checked."""

    found_bytes: Size
    """Were there already."""
    pulled_bytes: Size
    seconds: Annotated[float, Field(ge=0.0)]


Code = Literal[
    "bad_message", "not_allowed", "over_quota", "unsigned", "stale_epoch", "expired",
    "no_such_blob", "bad_digest", "no_such_port", "unreachable", "failed",
]  # fmt: skip


class Refusal(Message):
    """Why not, as a code; the reason in words stays in the node's own log."""

    refused: Code


Request = Annotated[Work | Deliver | Return | Lead | Prepare | Fetch, Field(discriminator="what")]
REQUEST: TypeAdapter[Work | Deliver | Return | Lead | Prepare | Fetch] = TypeAdapter(Request)
ANSWER: TypeAdapter[Opened | Begun | Blob | Refusal] = TypeAdapter(Opened | Begun | Blob | Refusal)
PREPARING: TypeAdapter[Progress | Prepared | Fetch | Refusal] = TypeAdapter(
    Progress | Prepared | Fetch | Refusal
)

T = TypeVar("T")


def parse(kind: TypeAdapter[T], frame: Frame) -> T:
    """The message in a control frame; raises FrameError for anything else."""
    if frame.kind is not Kind.CONTROL:
        raise FrameError("a member sent something else than a message")
    try:
        return kind.validate_json(bytes(frame.payload))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FrameError(f"a member sent a malformed message: {where}: {first['msg']}") from None


def packed(message: Message) -> bytes:
    """A message as it goes on the wire."""
    return b"".join(encode(control(message.model_dump(mode="json"))))


def canonical(values: dict[str, Any]) -> bytes:
    """The bytes that a signature of ``values`` is over."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
