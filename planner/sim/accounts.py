"""Accounts: what a run cost and how busy everything was, from what really happened in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.core.cost import Activity
from planner.core.cost.verification import AuditLoad, audit_load
from planner.core.outcomes import Outcomes
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.network import Network

_HOUR_S = 3600.0


def activity(
    network: Network,
    lasted_s: float,
    away_s: Mapping[str, float],
    starting_s: Mapping[str, float],
    lost_share: float,
) -> Activity:
    """What an hour of the run was like; a node costs nothing while it is away, but while it starts.

    ``lost_share`` is the share of all computed tokens that nobody got.
    """
    hourly = _HOUR_S / lasted_s
    busy = {name: server.busy_s(lasted_s) / lasted_s for name, server in network.servers.items()}
    again = {name: min(busy[name], s / lasted_s) for name, s in network.repeated_s.items()}
    return Activity(
        busy=busy,
        sent_bytes={
            ends: (wire.sent_bytes - wire.weights_bytes) * hourly
            for ends, wire in network.wires.items()
        },
        there={name: 1 - gone_s / lasted_s for name, gone_s in away_s.items()},
        starting={name: waits_s / lasted_s for name, waits_s in starting_s.items()},
        repeated={
            name: again.get(name, 0.0) + lost_share * (share - again.get(name, 0.0))
            for name, share in busy.items()
        },
        weights_bytes={
            ends: wire.weights_bytes * hourly
            for ends, wire in network.wires.items()
            if wire.weights_bytes
        },
        drafting=drafting(network, lasted_s),
    )


def drafting(network: Network, lasted_s: float) -> float:
    """Share of the time in which the coordinator drafted."""
    home = network.coordinator
    if not network.drafted_s:
        return 0.0
    return home.busy_s(lasted_s) / lasted_s * network.drafted_s / home.promised_s


def busy_shares(network: Network, lasted_s: float) -> tuple[dict[str, float], dict[str, float]]:
    """Share of the time that each node computed, and that each link or shared line was sending."""
    stages = {node: server.busy_s(lasted_s) / lasted_s for node, server in network.servers.items()}
    links = {
        f"{wire.src} -> {wire.dst}": wire.server.busy_s(lasted_s) / lasted_s
        for wire in network.wires.values()
    }
    for kind, lines in (("uplink", network.uplinks), ("downlink", network.downlinks)):
        for node, line in lines.items():
            links[f"{node} {kind}"] = line.server.busy_s(lasted_s) / lasted_s
    return stages, links


def audits(problem: Problem, plan: Plan, records: Outcomes, lasted_s: float) -> AuditLoad:
    """Audits of an hour of the run: of completed sessions, in the mean over who is drawn."""
    done = records.where("completed")
    if problem.serving.verification is None or not len(done):
        return AuditLoad()
    rates = np.bincount(done.pipeline, minlength=len(plan.pipelines)) / lasted_s
    prompt, output = float(done.prompt_tokens.mean()), float(done.output_tokens.mean())
    return audit_load(problem, plan, rates.tolist(), prompt, output)
