"""Bearing: what passes between a coordinator and the worker it was given, and what does not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.run.frames import CONTROL_LIMIT_BYTES, Frame, FrameError, control, decode, encode
from planner.run.limits import Limits
from planner.run.orders import Load, OfficeOrder, parse_order
from planner.run.relay import Frames
from planner.run.warrant import Assignment, Warrant


class Lease(Protocol):
    """What a coordinator may have a node do."""

    warrant: Warrant
    directory: Path


class Compute(Protocol):
    """What workers of a node compute with."""

    @property
    def threads(self) -> int:
        """Of each worker."""

    @property
    def device(self) -> str:
        """As torch names it."""


@dataclass(slots=True)
class Bearing:
    """Checks every order; a ``load`` is carried out as the node and the warrant have it."""

    lease: Lease
    node: str | None
    compute: Compute
    limits: Limits
    ports: set[int]
    secret: Ed25519PrivateKey | None = None
    """The node's own key, with which its workers sign receipts."""
    order: Frames = field(init=False)
    answer: Frames = field(init=False)
    _mine: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.order = Frames(self._ordered, _ORDER_LIMIT_BYTES)
        self.answer = Frames(self._answered, CONTROL_LIMIT_BYTES)

    def end(self) -> None:
        """Forgets the worker's ports."""
        self.ports -= self._mine

    def _ordered(self, data: bytes) -> bytes:
        order, values = parse_order(decode(data))
        if order.witness is not None:
            self._named(order.witness.office.node, order.witness.office)
            if self.secret is not None:
                values["witness"]["key"] = self.secret.private_bytes_raw().hex()
            return _bytes(control(values))
        if order.load is None:
            return data
        self._named(self.node, order.load)
        if order.load.slots * order.load.slot_tokens > self.limits.cache_tokens:
            raise FrameError("a coordinator orders a larger cache than it may have")
        values["load"] |= {
            "checkpoint": str(self.lease.directory),
            "threads": self.compute.threads,
            "device": self.compute.device,
        }
        return _bytes(control(values))

    def _named(self, node: str | None, layers: Load | OfficeOrder) -> None:
        """Raises FrameError for layers that the warrant does not give this node."""
        quant = layers.quant if isinstance(layers, Load) else layers.numeric["quant"]
        wanted = (layers.start, layers.stop, quant)
        mine = [(one.start, one.stop, one.quant) for one in self._assignments()]
        if wanted not in mine or (self.node is not None and node != self.node):
            raise FrameError("a coordinator orders layers that its warrant does not name")

    def _assignments(self) -> list[Assignment]:
        warrant = self.lease.warrant
        return list(warrant.assignments) if self.node is None else warrant.of(self.node)

    def _answered(self, data: bytes) -> bytes:
        """Notes the port at which the worker lets callers in."""
        if len(data) < _PORT_LIMIT_BYTES:
            message = json.loads(bytes(decode(data).payload))
            port = message.get("port") if isinstance(message, dict) else None
            if isinstance(port, int):
                self._mine.add(port)
                self.ports.add(port)
        return data


_PORT_LIMIT_BYTES = 65536
_ORDER_LIMIT_BYTES = 4 * 2**20
"""Largest order: what to replay of 65,536 seats is less."""


def _bytes(frame: Frame) -> bytes:
    return b"".join(encode(frame))
