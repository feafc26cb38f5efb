"""What the hosts of a run were found to reach, beside what their profiles say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.core.drift import Speeds, probed
from planner.core.problem import Problem
from planner.core.units import show
from planner.report.tables import signed, table

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class HostSpeeds:
    """Nodes that were read together: as probed, and as found when the run began."""

    nodes: tuple[str, ...]
    probed: Speeds
    found: Speeds

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "nodes": list(self.nodes),
            **{
                name: {"probed": getattr(self.probed, name), "found": getattr(self.found, name)}
                for name in ("memory_bytes_per_s", "flop_per_s", "call_s")
            },
        }


def host_speeds(problem: Problem, found: Mapping[str, Speeds]) -> tuple[HostSpeeds, ...]:
    """By host, of the nodes whose devices were probed."""
    together: dict[tuple[Speeds, Speeds], list[str]] = {}
    for name, now in found.items():
        if problem.cluster.node(name).device is None:
            continue
        then = probed(problem.cluster.device(name))
        if then is not None:
            together.setdefault((then, now), []).append(name)
    return tuple(HostSpeeds(tuple(names), *pair) for pair, names in together.items())


def hosts_table(hosts: Iterable[HostSpeeds]) -> Table:
    """One row per host and reading."""
    rows = table("host of", "", ">probed", ">found", ">change")
    for host in hosts:
        for said, name, unit in (
            ("streaming read", "memory_bytes_per_s", "bytes_per_s"),
            ("products in bf16", "flop_per_s", "flop_per_s"),
            ("a small operation", "call_s", "s"),
        ):
            then, now = getattr(host.probed, name), getattr(host.found, name)
            cells = (show(then, unit), show(now, unit), signed(now / then - 1))
            rows.add_row(", ".join(host.nodes), said, *cells)
    return rows
