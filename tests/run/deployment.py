"""A deployment on this host: keys, daemons and what a stranger would try."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planner.run.identity import Authority, Keys, Role, new_authority, read_keys
from planner.run.limits import Limits
from planner.run.messages import Source
from planner.run.node import Compute, Node
from planner.run.store import Store


@dataclass
class Daemon:
    """A node that serves on a thread of this process."""

    node: Node
    listener: socket.socket
    source: Source

    @property
    def address(self) -> tuple[str, int]:
        return self.source.host, self.source.port

    def idle(self, within_s: float = 5.0) -> bool:
        """Whether nothing is held for anybody."""
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            if not self.node.usage._held and not self.node._leases and not self.node._ports:
                return True
            time.sleep(0.02)
        return False


@dataclass
class Deployment:
    """An authority and its members."""

    folder: Path
    authority: Authority
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def keys(self, role: Role, name: str, days: float = 1.0) -> Keys:
        self.authority.admit(role, name, days)
        return read_keys(self.folder / name)

    @contextlib.contextmanager
    def daemon(self, name: str, limits: Limits | None = None) -> Iterator[Daemon]:
        keys = self.keys("node", name)
        node = Node(keys, Store(self.folder / f"weights-{name}"), Compute(1), limits or Limits())
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        source = Source(node=name, host="127.0.0.1", port=port, fingerprint=keys.me.fingerprint)
        threading.Thread(target=node.serve, args=(listener,), daemon=True).start()
        try:
            yield Daemon(node, listener, source)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def deployment(folder: Path) -> Deployment:
    return Deployment(folder, new_authority(folder, days=1.0))
