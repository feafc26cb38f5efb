"""Imitated links, measured: delay, rate and jitter of messages, beside what was asked for.

    python -m benchmarks.links [--messages 200]

Messages go through a shaped connection to another process of this host, which notes when it has
each. Small ones, one at a time, show delay and jitter; large ones in a row show the rate.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from planner.run.frames import Frame, Kind, PeerLostError, Seat, encode, read_frame
from planner.run.transport import Channel, LinkShape

SHAPES = (
    LinkShape(1e-3, 125e6),
    LinkShape(5e-3, 25e6),
    LinkShape(20e-3, 12.5e6),
    LinkShape(80e-3, 12.5e6),
    LinkShape(20e-3, 12.5e6, jitter_s=2e-3),
)
SMALL, LARGE = 16, 2**18
"""Tokens of small and large messages, four bytes each."""
ROW_S = 0.7
"""How long a row of large ones takes at the rate asked for, at least."""
WITHIN_S, WITHIN = 1e-3, 0.03
_LIMIT_BYTES = 2**24


@dataclass(frozen=True, slots=True)
class Measured:
    """What a link did."""

    delay_s: float
    """Of small messages in the median, their serialisation taken off."""
    jitter_s: float
    bytes_per_s: float

    def keeps(self, shape: LinkShape) -> bool:
        """Whether it did what was asked."""
        rate = self.bytes_per_s / shape.bytes_per_s - 1
        return abs(self.delay_s - shape.one_way_latency_s) <= WITHIN_S and abs(rate) <= WITHIN


def message(job: int, tokens: int) -> Frame:
    """A frame of so many token ids."""
    payload = struct.pack(f"<{tokens}i", *(0,) * tokens)
    return Frame(
        Kind.DECODE, job, (Seat(0, 0, 0.0, 1.0, 0, tokens, 0),), "int32", tokens, 1, payload
    )


def receiver(sock: socket.socket, clock: socket.socket) -> None:
    """Says when it has each message."""
    try:
        while True:
            read_frame(sock, _LIMIT_BYTES)
            clock.sendall(struct.pack("<d", time.monotonic()))
    except PeerLostError:
        return


def measured(shape: LinkShape, messages: int) -> Measured:
    """Sends messages through a link."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    clock, far = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    child = os.fork()
    if not child:
        ours.close()
        clock.close()
        receiver(theirs, far)
        os._exit(0)
    theirs.close()
    far.close()
    channel = Channel(ours, shape)
    small = [_sent(channel, clock, [message(index, SMALL)]) for index in range(messages)]
    late_s = [came[0] - sent_s - _bytes(SMALL) / shape.bytes_per_s for sent_s, came in small]
    row = 2 + int(ROW_S * shape.bytes_per_s / _bytes(LARGE))
    _, came = _sent(channel, clock, [message(index, LARGE) for index in range(row)])
    rate = (row - 1) * _bytes(LARGE) / (came[-1] - came[0])
    channel.close()
    clock.close()
    os.waitpid(child, 0)
    return Measured(statistics.median(late_s), statistics.stdev(late_s), rate)


def _bytes(tokens: int) -> int:
    return sum(len(part) for part in encode(message(0, tokens)))


def _sent(
    channel: Channel, clock: socket.socket, frames: Sequence[Frame]
) -> tuple[float, list[float]]:
    """When messages were handed over, and when each was there."""
    begun_s = time.monotonic()
    for frame in frames:
        channel.send(frame)
    came = [struct.unpack("<d", clock.recv(8, socket.MSG_WAITALL))[0] for _ in frames]
    return begun_s, came


def main() -> int:
    """Prints a row per link; 1 where one is off by more than 1 ms or 3 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=100)
    options = parser.parse_args()
    print("| asked: delay, jitter, rate | delay | jitter | rate | |")
    print("|---|---|---|---|---|")
    broken = 0
    for shape in SHAPES:
        found = measured(shape, options.messages)
        broken += not found.keeps(shape)
        asked = (
            f"{1e3 * shape.one_way_latency_s:g} ms, {1e3 * shape.jitter_s:g} ms, "
            f"{8e-6 * shape.bytes_per_s:g} Mbit/s"
        )
        off = found.bytes_per_s / shape.bytes_per_s - 1
        print(
            f"| {asked} | {1e3 * found.delay_s:.2f} ms | {1e3 * found.jitter_s:.2f} ms | "
            f"{8e-6 * found.bytes_per_s:.1f} Mbit/s ({off:+.1%}) | "
            f"{'kept' if found.keeps(shape) else 'off'} |",
            flush=True,
        )
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
