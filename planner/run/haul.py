"""Haul: weights on their way to a worker of this host that its node would have to download.

They go piece by piece through a link that is imitated like any other, into a folder from which
the worker loads them.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from planner.run.blobs import CHUNK_BYTES, CONFIG, Recipe
from planner.run.frames import Frame, Kind, control, encode, read_control, read_frame, send_all
from planner.run.transport import Channel, LinkShape, Listener, connect

_MOST_PENDING = 64
"""Messages, of a chunk at most, that are held in memory until they are due."""
_LOOK_AGAIN_S = 1e-3
_ACCEPT_S = 30.0


def send(listener: Listener, pieces: dict[str, Recipe], shape: LinkShape | None) -> int:
    """Sends pieces to whoever connects; returns the bytes. Raises PeerLostError, TimeoutError."""
    sock, _ = listener.accept(_ACCEPT_S)
    sizes = {name: piece.size_bytes for name, piece in pieces.items()}
    send_all(sock, encode(control({"pieces": sizes})))
    channel = Channel(sock, shape)
    with contextlib.closing(channel):
        for piece in pieces.values():
            for chunk in piece.chunks():
                channel.send(Frame(Kind.CHUNK, 0, (), "bytes", 1, len(chunk), chunk))
                while channel.pending > _MOST_PENDING:
                    time.sleep(_LOOK_AGAIN_S)
        while channel.pending:
            time.sleep(_LOOK_AGAIN_S)
    return sum(sizes.values())


def receive(port: int, secret: str, folder: str) -> int:
    """Writes the pieces that come from a port into a folder; returns the bytes.

    Raises PeerLostError, OSError.
    """
    with contextlib.closing(connect(port, secret, "weights")) as sock:
        sizes = read_control(sock)["pieces"]
        for name, size_bytes in sizes.items():
            path = Path(folder) / (name if name == CONFIG else f"{name}.safetensors")
            with path.open("wb") as file:
                while file.tell() < size_bytes:
                    file.write(read_frame(sock, CHUNK_BYTES).payload)
    return sum(sizes.values())
