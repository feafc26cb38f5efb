"""Time of a transfer between two nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.core.cluster import Line
from planner.core.cost.batch import Phase
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme

TOKEN_BYTES = 4.0
"""A token id on the wire."""

SEGMENT_BYTES = 1460.0
"""Payload of a TCP segment on Ethernet."""

_MATHIS = math.sqrt(3 / 2)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Seconds of one message, by cause."""

    serialise_s: float
    """The sender's line is busy; messages queue behind each other."""
    propagate_s: float
    """On the way; messages overlap."""
    relay_s: float
    """Software at both ends, and of relays on the way."""
    ramp_s: float = 0.0
    """Waiting for acknowledgements while the window of the connection grows."""

    @property
    def busy_s(self) -> float:
        """How long the connection has no room for the next message."""
        return self.serialise_s + self.ramp_s

    @property
    def total_s(self) -> float:
        """Seconds from handing the message over until it is delivered, without queueing."""
        return self.serialise_s + self.propagate_s + self.relay_s + self.ramp_s


def transfer_time(
    link: Line | None, payload_bytes: float, engine: Engine, phase: Phase = "decode"
) -> Transfer:
    """Seconds to move one message of ``payload_bytes`` over ``link`` (None: the node itself).

    A prompt finds its connection idle; decode steps come so close that its window stays open.
    """
    if link is None:
        return Transfer(0.0, 0.0, engine.hop_s if engine.own_hop_s is None else engine.own_hop_s)
    wire_bytes = payload_bytes + engine.frame_bytes
    rate = stream_bytes_per_s(link)
    initial_bytes = link.initial_window_bytes if phase == "prefill" else None
    ramp = ramp_s(wire_bytes, initial_bytes, 2 * link.one_way_latency_s, rate)
    return Transfer(wire_bytes / rate, link.one_way_latency_s, engine.hop_s + link.relay_s, ramp)


def stream_bytes_per_s(line: Line) -> float:
    """What one TCP connection reaches: the line, its window, or what loss leaves of it.

    A window of W bytes passes W per round trip. Random loss p limits a connection to
    segment / round trip x sqrt(3 / (2 p)) (Mathis, Semke, Mahdavi, Ott, CCR 1997). A round trip
    is taken as twice the one-way latency.
    """
    round_trip_s = 2 * line.one_way_latency_s
    rates = [line.bytes_per_s]
    if round_trip_s > 0 and line.window_bytes is not None:
        rates.append(line.window_bytes / round_trip_s)
    if round_trip_s > 0 and line.loss > 0:
        rates.append(SEGMENT_BYTES / round_trip_s * _MATHIS / math.sqrt(line.loss))
    return min(rates)


def ramp_s(
    size_bytes: float, initial_window_bytes: float | None, round_trip_s: float, bytes_per_s: float
) -> float:
    """Seconds that slow start adds to a message on a connection that was idle.

    The connection sends one window, waits until it is acknowledged, and sends twice as much, until
    a window takes as long to send as its acknowledgement to come (RFC 5681; 10 segments to begin
    with, RFC 6928). None is a connection that keeps its window.
    """
    if initial_window_bytes is None:
        return 0.0
    window, waited_s = initial_window_bytes, 0.0
    left = size_bytes - window
    while left > 0 and window / bytes_per_s < round_trip_s:
        waited_s += round_trip_s - window / bytes_per_s
        window *= 2
        left -= window
    return waited_s


def hidden_payload_bytes(model: ModelSpec, quant: QuantScheme, tokens: float) -> float:
    """Bytes of the hidden states of ``tokens`` tokens between two stages."""
    return tokens * model.hidden_size * model.residual_streams * quant.wire_bits / 8


def token_payload_bytes(tokens: float) -> float:
    """Bytes of ``tokens`` token ids: into the first stage, out of the last one."""
    return tokens * TOKEN_BYTES
