"""Machines of one host: network namespaces with addresses of their own and links with a rate."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_SUBNET = "10.203"


def missing() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "iproute2 is not installed"
    try:
        _do("ip netns add planner-probe")
        _do("ip netns del planner-probe")
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    if not os.access(_FORWARD, os.W_OK):
        return "forwarding between namespaces cannot be switched on"
    return ""


@dataclass(frozen=True)
class Machine:
    """A namespace and the near end of the wire to it."""

    name: str
    namespace: str
    address: str
    wire: str

    def inside(self, words: Sequence[str]) -> list[str]:
        """A command line that runs in it."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def cut(self) -> None:
        """Takes the wire away: nothing arrives and nothing says so."""
        _do(f"ip link set {self.wire} down")

    def mend(self) -> None:
        """Puts the wire back."""
        _do(f"ip link set {self.wire} up")


@contextlib.contextmanager
def machines(names: Sequence[str], rate: str) -> Iterator[dict[str, Machine]]:
    """Namespaces that reach each other through this one, each over a wire of a rate."""
    made, forward = {}, _FORWARD.read_text()
    with contextlib.ExitStack() as stack:
        stack.callback(_FORWARD.write_text, forward)
        _FORWARD.write_text("1")
        for index, name in enumerate(names, start=1):
            namespace, wire = f"planner-{os.getpid()}-{index}", f"pl{os.getpid() % 10**6}n{index}"
            stack.callback(_quietly, f"ip netns del {namespace}")
            stack.callback(_quietly, f"ip link del {wire}")
            _do(f"ip netns add {namespace}")
            _do(f"ip link add {wire} type veth peer name eth0 netns {namespace}")
            _do(f"ip addr add {_SUBNET}.{index}.1/24 dev {wire}")
            _do(f"ip link set {wire} up")
            for command in (
                f"addr add {_SUBNET}.{index}.2/24 dev eth0",
                "link set eth0 up",
                "link set lo up",
                f"route add default via {_SUBNET}.{index}.1",
            ):
                _do(f"ip -n {namespace} {command}")
            shaped = f"root tbf rate {rate} burst 64kb latency 400ms"
            _do(f"tc qdisc add dev {wire} {shaped}")
            _do(f"ip netns exec {namespace} tc qdisc add dev eth0 {shaped}")
            made[name] = Machine(name, namespace, f"{_SUBNET}.{index}.2", wire)
        yield made


def _do(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True)


def _quietly(command: str) -> None:
    subprocess.run(command.split(), check=False, capture_output=True)
