"""Time of a transfer between two nodes."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cluster import Link
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme

TOKEN_BYTES = 4.0
"""A token id on the wire."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Seconds of one message, by cause."""

    serialise_s: float
    """The sender's line is busy; messages queue behind each other."""
    propagate_s: float
    """On the way; messages overlap."""
    relay_s: float
    """Software at both ends."""

    @property
    def total_s(self) -> float:
        """Seconds from handing the message over until it is delivered, without queueing."""
        return self.serialise_s + self.propagate_s + self.relay_s


def transfer_time(link: Link | None, payload_bytes: float, engine: Engine) -> Transfer:
    """Seconds to move one message of ``payload_bytes`` over ``link`` (None: the node itself)."""
    if link is None:
        return Transfer(0.0, 0.0, engine.hop_s)
    wire_bytes = payload_bytes + engine.frame_bytes
    return Transfer(wire_bytes / link.bytes_per_s, link.one_way_latency_s, engine.hop_s)


def hidden_payload_bytes(model: ModelSpec, quant: QuantScheme, tokens: float) -> float:
    """Bytes of the hidden states of ``tokens`` tokens between two stages."""
    return tokens * model.hidden_size * model.residual_streams * quant.wire_bits / 8


def token_payload_bytes(tokens: float) -> float:
    """Bytes of ``tokens`` token ids: into the first stage, out of the last one."""
    return tokens * TOKEN_BYTES
