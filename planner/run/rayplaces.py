"""Ray: the nodes of a plan as actors of a Ray cluster.

Ray decides where an actor runs, notices when it is gone and starts it anew; each actor is the
daemon that ``planner node`` is. What stages say to each other goes over their own connections,
behind TLS with keys that are made for the run.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.errors import RunError
from planner.core.plan import Plan
from planner.run.blobs import list_pieces, recipes
from planner.run.checkpoint import Checkpoint
from planner.run.identity import Authority, Keys, Member, new_authority, read_keys
from planner.run.limits import Limits
from planner.run.messages import Source
from planner.run.node import Compute, Node
from planner.run.places import Place
from planner.run.relay import splice
from planner.run.remote import Provision, RemotePlace, RemoteProcess, Supplies
from planner.run.spread import connected
from planner.run.store import Store
from planner.run.warrant import Warrant, assignments_of, sign

LABEL = "planner-node"
"""Label of a Ray node that is a node of the plan."""
RESOURCE = "planner:"
"""Begin of a custom resource that does the same, for clusters without labels."""
_HOME = "home"
_DAYS = 1.0
_START_S = 120.0
"""How long Ray may take to have an actor running, the first time or again."""


@dataclass(frozen=True, slots=True)
class Host:
    """What an actor needs: the files of its keys, and what its workers compute with."""

    files: Mapping[str, bytes]
    compute: Compute


class Daemon:
    """The actor: a node daemon on the machine that Ray chose."""

    def __init__(self, host: Host) -> None:
        import ray

        self._folder = Path(tempfile.mkdtemp(prefix="planner-ray-"))
        for name, content in host.files.items():
            path = self._folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
        keys = read_keys(self._folder)
        node = Node(keys, Store(self._folder / "weights"), host.compute, Limits())
        self._address = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._listener = socket.create_server((self._address, 0))
        threading.Thread(target=node.serve, args=(self._listener,), daemon=True).start()

    def where(self) -> tuple[str, int]:
        """Address and port at which it listens."""
        port: int = self._listener.getsockname()[1]
        return self._address, port


class RayPlace:
    """A node of the plan, wherever Ray has its actor at the time."""

    def __init__(self, member: Member, actor: Any, keys: Keys, order: Provision) -> None:
        self.host = member.id
        self.actor = actor
        self._member, self._keys, self._order = member, keys, order
        self._remote: RemotePlace | None = None

    @property
    def signer(self) -> str | None:
        """Public key of the daemon there (hex)."""
        return self._remote.signer if self._remote else None

    def arrive(self) -> RemotePlace:
        """The daemon where it is now, with its weights ready; raises RunError."""
        import ray

        try:
            address, port = ray.get(self.actor.where.remote(), timeout=_START_S)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
            raise RunError(f"Ray has no actor for node {self.host}: {error}") from None
        key = self._member.fingerprint
        source = Source(node=self.host, host=address, port=port, fingerprint=key)
        remote = RemotePlace(source, self._keys)
        remote.prepare(self._order)
        self._remote = remote
        return remote

    def start(self, threads: int) -> RemoteProcess:
        """A new worker there; started without waiting, since Ray may have to start the actor."""

        def lead(inner: socket.socket) -> str:
            try:
                process = self.arrive().start(threads)
            except RunError as error:
                return error.message
            try:
                splice(inner, process.control)
            finally:
                process.kill()
                process.close()
            return "its actor or the way to it failed"

        return RemoteProcess(lead)

    def obtain(self, start: int, stop: int) -> bool:
        """The daemon pulls them."""
        return self._here().obtain(start, stop)

    def port_to(self, other: Place, port: int) -> int:
        """A port of the actor's machine that leads to another place."""
        there = other._here() if isinstance(other, RayPlace) else other
        return self._here().port_to(there, port)

    def port_from_home(self, port: int) -> int:
        """A port of this host that leads to a worker there."""
        return self._here().port_from_home(port)

    def _here(self) -> RemotePlace:
        if self._remote is None:
            raise RunError(f"node {self.host} has not started")
        return self._remote


@contextlib.contextmanager
def ray_places(
    plan: Plan, checkpoint: Checkpoint, compute: Compute, address: str | None = None
) -> Iterator[dict[str, Place]]:
    """Places by node of a plan, on the Ray cluster at ``address``; their actors end with it.

    An actor goes to the Ray node that has the label ``planner-node=ID`` or the resource
    ``planner:ID``, and where there is none, to wherever Ray spreads it. Raises RunError.
    """
    ray = connected(address or "auto")
    names = dict.fromkeys([*plan.nodes, *(one.node for one in plan.standbys)])
    with tempfile.TemporaryDirectory(prefix="planner-ray-") as folder:
        authority = new_authority(Path(folder), _DAYS)
        authority.admit("coordinator", _HOME, _DAYS)
        keys = read_keys(Path(folder) / _HOME)
        order = _order(plan, checkpoint, authority)
        actors: list[Any] = []
        places: dict[str, Place] = {}
        try:
            for name in names:
                member = authority.admit("node", name, _DAYS)
                kept = {one.name: one.read_bytes() for one in (Path(folder) / name).iterdir()}
                options = {"max_restarts": -1, "num_cpus": compute.threads} | _wish(ray, name)
                actors.append(ray.remote(Daemon).options(**options).remote(Host(kept, compute)))
                places[name] = RayPlace(member, actors[-1], keys, order)
            yield places
        finally:
            for actor in actors:
                ray.kill(actor)


def _wish(ray: Any, name: str) -> dict[str, Any]:
    """Options that lead an actor to the Ray node of a name, if one says that it is that node."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    if any(f"{RESOURCE}{name}" in node["Resources"] for node in alive):
        return {"resources": {f"{RESOURCE}{name}": 1}}
    if any(node.get("Labels", {}).get(LABEL) == name for node in alive):
        return {"label_selector": {LABEL: name}}
    return {"scheduling_strategy": "SPREAD"}


def _order(plan: Plan, checkpoint: Checkpoint, authority: Authority) -> Provision:
    """What the daemons of a run may do, signed with the keys that were made for it."""
    pieces = list_pieces(checkpoint)
    warrant = Warrant(
        deployment=authority.deployment,
        manifest="0" * 64,
        weights=pieces.digest,
        epoch=1,
        expires=int(time.time() + _DAYS * 86400),
        assignments=assignments_of(plan),
    )
    signed = sign(warrant, authority)
    return Provision(signed, Supplies(pieces, recipes(checkpoint)), "checkpoint")
