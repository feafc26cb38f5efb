"""Time of a transfer between two nodes."""

from __future__ import annotations

import math
from bisect import bisect_left
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

    def behind(self, other: Transfer, *, answered: bool) -> Transfer:
        """Both messages, this one after the other: once that has its answer, or right behind it."""
        times = 1 if answered else 0
        return Transfer(
            self.serialise_s + other.serialise_s,
            self.propagate_s + times * other.propagate_s,
            self.relay_s + times * other.relay_s,
            self.ramp_s + other.ramp_s,
        )


@dataclass(frozen=True, slots=True)
class Carrier:
    """A link under an engine: what its messages take, apart from their size."""

    rate: float
    """Bytes per second of one connection; infinite from a node to itself."""
    frame_bytes: float
    propagate_s: float
    relay_s: float
    ramp: tuple[tuple[float, ...], tuple[float, ...]] = ((), (0.0,))
    """Sizes beyond which an idle connection waits once more, and how long it has waited then."""

    @classmethod
    def of(cls, link: Line | None, engine: Engine, phase: Phase) -> Carrier:
        """What a link (None: the node itself) makes of an engine's messages.

        A prompt finds its connection idle; decode steps come so close that its window stays open.
        """
        if link is None:
            own_s = engine.hop_s if engine.own_hop_s is None else engine.own_hop_s
            return cls(math.inf, engine.frame_bytes, 0.0, own_s)
        rate = stream_bytes_per_s(link)
        initial_bytes = link.initial_window_bytes if phase == "prefill" else None
        ramp = _ramp(initial_bytes, 2 * link.one_way_latency_s, rate)
        relay_s = engine.hop_s + link.relay_s
        return cls(rate, engine.frame_bytes, link.one_way_latency_s, relay_s, ramp)

    def busy_s(self, payload_bytes: float, before_bytes: float = 0.0) -> float:
        """How long a message takes the connection (s), right behind ``before_bytes`` others."""
        wire_bytes = payload_bytes + self.frame_bytes
        return wire_bytes / self.rate + self._more_ramp_s(before_bytes, wire_bytes)

    def transfer(self, payload_bytes: float, before_bytes: float = 0.0) -> Transfer:
        """What a message takes, by cause, right behind ``before_bytes`` of other ones."""
        wire_bytes = payload_bytes + self.frame_bytes
        ramp_s = self._more_ramp_s(before_bytes, wire_bytes)
        return Transfer(wire_bytes / self.rate, self.propagate_s, self.relay_s, ramp_s)

    def _more_ramp_s(self, before_bytes: float, wire_bytes: float) -> float:
        ramp_s = self._ramp_s(before_bytes + wire_bytes)
        return ramp_s - self._ramp_s(before_bytes) if before_bytes else ramp_s

    def _ramp_s(self, wire_bytes: float) -> float:
        beyond, waited_s = self.ramp
        return waited_s[bisect_left(beyond, wire_bytes)] if beyond else 0.0


def transfer_time(
    link: Line | None, payload_bytes: float, engine: Engine, phase: Phase = "decode"
) -> Transfer:
    """Seconds to move one message of ``payload_bytes`` over ``link`` (None: the node itself)."""
    return Carrier.of(link, engine, phase).transfer(payload_bytes)


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
    beyond, waited_s = _ramp(initial_window_bytes, round_trip_s, bytes_per_s)
    return waited_s[bisect_left(beyond, size_bytes)]


def _ramp(
    initial_window_bytes: float | None, round_trip_s: float, bytes_per_s: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sizes beyond which a connection waits once more, and how long it has waited by then."""
    beyond, waited_s = [], [0.0]
    window = sent = initial_window_bytes or math.inf
    while window / bytes_per_s < round_trip_s:
        beyond.append(sent)
        waited_s.append(waited_s[-1] + round_trip_s - window / bytes_per_s)
        window *= 2
        sent += window
    return tuple(beyond), tuple(waited_s)


def hidden_payload_bytes(model: ModelSpec, quant: QuantScheme, tokens: float) -> float:
    """Bytes of the hidden states of ``tokens`` tokens between two stages."""
    return tokens * model.hidden_size * model.residual_streams * quant.wire_bits / 8


def token_payload_bytes(tokens: float) -> float:
    """Bytes of ``tokens`` token ids: into the first stage, out of the last one."""
    return tokens * TOKEN_BYTES
