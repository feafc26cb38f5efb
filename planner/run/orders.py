"""Orders: what a coordinator may tell a worker on another machine."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from planner.receipts.record import Name
from planner.run.frames import CONTROL_LIMIT_BYTES, Frame, FrameError
from planner.run.messages import Digest, Layer, Message, Port

_Secret = Annotated[str, Field(pattern=r"^[0-9a-f]{32,128}$")]
_Seconds = Annotated[float, Field(ge=0.0, le=3600.0)]
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Digits = Annotated[str, Field(pattern=r"^[0-9]{1,16}$")]


class Load(Message):
    """Hold a stage."""

    checkpoint: Annotated[str, Field(max_length=4096)]
    """Ignored: a node looks for the weights itself."""
    start: Layer
    stop: Layer
    quant: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    slots: Annotated[int, Field(ge=1, le=65536)]
    slot_tokens: Annotated[int, Field(ge=1, le=2**24)]
    threads: Annotated[int, Field(ge=1, le=4096)]
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:[0-9]{1,3})?)$")]
    wire: Literal["plain", "int8"] = "plain"
    kernels: dict[Annotated[str, Field(max_length=64)], JsonValue] | None
    compiled: bool = False
    secret: _Secret


class Link(Message):
    """A link to imitate."""

    one_way_latency_s: _Seconds
    bytes_per_s: Annotated[float, Field(gt=0.0)]
    jitter_s: _Seconds = 0.0
    seed: _Count = 0
    relay_s: _Seconds = 0.0
    initial_window_bytes: Annotated[float, Field(gt=0.0)] | None = None


class Connect(Message):
    """Send results there from now on."""

    port: Port
    secret: _Secret
    link: Link | None
    epoch: _Count = 0
    fence: _Count = 0


class Replay(Message):
    """Send stored results once more."""

    live: Annotated[list[tuple[_Count, _Count, _Count]], Field(max_length=65536)]
    as_sent: bool


class OfficeOrder(Message):
    """What a stage signs for; see ``Office``."""

    run: Name
    manifest: Digest
    node: Name
    pipeline: Layer
    stage: Layer
    start: Layer
    stop: Layer
    weights: Digest
    numeric: dict[Literal["dtype", "quant", "kernel"], Name]
    last: bool


class Swear(Message):
    """Sign what the stage does; a node with a key of its own signs with that."""

    office: OfficeOrder
    key: Digest


class Boundary(Message):
    """Say what was seen of some sessions."""

    side: Literal["in", "out"]
    sessions: Annotated[list[_Count], Field(max_length=65536)]


class Surrender(Message):
    """Hand the bytes of a session to a verifier."""

    session: _Count
    port: Port
    secret: _Secret
    name: Digest


_Seen = tuple[_Count, _Count, Annotated[list[Digest], Field(max_length=64)]]


class Order(Message):
    """One of these."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    load: Load | None = None
    connect: Connect | None = None
    replay: Replay | None = None
    beat: Annotated[int, Field(ge=0, le=2**53)] | None = None
    report: bool | None = None
    gauge: bool | None = None
    stop: bool | None = None
    witness: Swear | None = None
    close: _Count | None = None
    boundary: Boundary | None = None
    adopt: dict[_Digits, tuple[_Count, _Seen, _Seen]] | None = None
    surrender: Surrender | None = None
    forget: _Count | None = None

    @model_validator(mode="after")
    def _one(self) -> Order:
        if len(self.model_fields_set) != 1:
            raise ValueError("an order says one thing")
        return self


def parse_order(frame: Frame) -> tuple[Order, dict[str, Any]]:
    """An order, checked, and as it came; raises FrameError."""
    payload = bytes(frame.payload)
    if len(payload) > CONTROL_LIMIT_BYTES:
        raise FrameError("an order is too large")
    try:
        return Order.model_validate_json(payload), json.loads(payload)
    except (ValidationError, ValueError, RecursionError):
        raise FrameError("a coordinator sent an order that is none") from None
