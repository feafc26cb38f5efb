"""Accounts: what a run cost and how busy everything was, from what really happened in it."""

from __future__ import annotations

from collections.abc import Mapping

from planner.core.cost import Cost, Usage, price
from planner.core.cost.money import energy_joule
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.network import Network

_HOUR_S = 3600.0


def usd_per_hour(
    problem: Problem,
    plan: Plan,
    network: Network,
    lasted_s: float,
    away_s: Mapping[str, float],
) -> dict[str, float]:
    """USD per hour by part: rent of all nodes, energy by busy time, egress by bytes sent.

    A node costs nothing while it is away.
    """
    cost = Cost()
    hosts = {problem.cluster.coordinator, *(standby.node for standby in plan.standbys)}
    for name in sorted(set(network.servers) | hosts):
        node = problem.cluster.node(name)
        there_s = lasted_s - away_s.get(name, 0.0)
        busy_s = network.servers[name].busy_s(lasted_s) if name in network.servers else 0.0
        device = problem.cluster.device(name) if node.device else None
        joule = 0.0
        if device is not None:
            joule = energy_joule(busy_s, there_s, device.tdp_w, device.idle_w) * node.count
        cost += price(Usage(node.usd_per_hour, there_s, joule, node.usd_per_joule))
    for wire in network.wires.values():
        charged = wire.link.usd_per_byte if wire.link else 0.0
        cost += price(Usage(egress_bytes=wire.sent_bytes, usd_per_byte=charged))
    return {part: usd * _HOUR_S / lasted_s for part, usd in cost.parts().items()}


def busy_shares(network: Network, lasted_s: float) -> tuple[dict[str, float], dict[str, float]]:
    """Share of the time that each node computed, and that each link was sending."""
    stages = {node: server.busy_s(lasted_s) / lasted_s for node, server in network.servers.items()}
    links = {
        f"{wire.src} -> {wire.dst}": wire.server.busy_s(lasted_s) / lasted_s
        for wire in network.wires.values()
    }
    return stages, links
