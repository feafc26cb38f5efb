"""Access: the lines by which nodes reach the network, where several of their links share one.

A message passes the uplink of its sender, its link and the downlink of its receiver, each of which
serves in order of coming and passes bytes on as they come (cut-through). Nothing else being on the
way, that takes what the cost model says of the narrowest. An uplink that a single hop uses is never
in the way of anything but that hop's own link, which is no faster; so it is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from planner.core.cost.traversal import route
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.sim.server import Server

Hops = tuple[tuple[str, str], ...]
"""The ends of every hop of a pipeline."""


@dataclass(slots=True)
class Access:
    """An uplink or a downlink of a node."""

    bytes_per_s: float
    server: Server = field(default_factory=Server)

    def pass_on(self, now_s: float, size_bytes: float) -> tuple[float, float]:
        """When the first and the last byte of a message that comes now have passed (s)."""
        return self.server.serve(now_s, size_bytes / self.bytes_per_s)


def uplinks(problem: Problem, plan: Plan) -> dict[str, Access]:
    """By node: uplinks that several hops of the plan may use at once."""
    used = _most_used(problem, plan, 0)
    rates = {node.id: node.uplink_bytes_per_s for node in problem.cluster.nodes}
    return {name: Access(rate) for name in used if (rate := rates[name])}


def downlinks(problem: Problem, plan: Plan) -> dict[str, Access]:
    """The same for downlinks."""
    used = _most_used(problem, plan, 1)
    rates = {node.id: node.downlink_bytes_per_s for node in problem.cluster.nodes}
    return {name: Access(rate) for name in used if (rate := rates[name])}


def _most_used(problem: Problem, plan: Plan, end: int) -> list[str]:
    """Nodes at an end of several hops, all pipelines together, with any one standby at work."""
    found = {
        name
        for hops in _situations(problem, plan)
        for name, count in Counter(pair[end] for pair in hops).items()
        if count > 1
    }
    return sorted(found)


def _situations(problem: Problem, plan: Plan) -> Iterator[Sequence[tuple[str, str]]]:
    """The hops as planned, then with each of the standbys at its place."""
    planned = [_hops(problem, pipeline.nodes) for pipeline in plan.pipelines]
    yield [pair for hops in planned for pair in hops]
    for standby in plan.standbys:
        nodes = list(plan.pipelines[standby.pipeline].nodes)
        nodes[standby.stage] = standby.node
        changed = [*planned]
        changed[standby.pipeline] = _hops(problem, nodes)
        yield [pair for hops in changed for pair in hops]


def _hops(problem: Problem, nodes: Iterable[str]) -> Hops:
    """Hops between different nodes."""
    return tuple(ends for ends in route(problem, tuple(nodes)) if ends[0] != ends[1])
