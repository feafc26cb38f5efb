"""Standbys: nodes that a plan leaves out, kept ready so that it is there as often as asked.

Each step takes the spare node that raises availability most for its price: hot for the stage where
it helps most, whose weights it holds, and cold for the other stages that fit it.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.core.choice import decided
from planner.core.cluster import Node
from planner.core.cost.availability import fate, node_up_share, pipeline_availability
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem
from planner.plan.classes import allowed_nodes, without_nodes
from planner.plan.room import capacity_bytes, stage_needs

_LEVELS = 4
"""Levels of reliability that are told apart."""
MOST = 6
"""Standbys of one pipeline at most; the chances of all their states are summed."""


def protected(problem: Problem, plan: Plan) -> Plan:
    """The plan with standbys, until it is there as often as asked or none helps any more."""
    asked = problem.requirements.must_have.availability
    if asked is None:
        return plan
    problem = decided(problem, plan)
    weights = [pipeline.weight for pipeline in plan.pipelines]
    while True:
        shares = [
            pipeline_availability(problem.cluster, plan, index)
            for index in range(len(plan.pipelines))
        ]
        reached = sum(w * share for w, share in zip(weights, shares, strict=True)) / sum(weights)
        if reached >= asked:
            return plan
        worst = min(range(len(shares)), key=lambda index: (shares[index], index))
        better = _one_more(problem, plan, worst, shares[worst])
        if better is None:
            return plan
        plan = better


def unprotected(problem: Problem) -> Problem:
    """The problem for a search that leaves standbys for later."""
    must = problem.requirements.must_have.model_copy(update={"availability": None})
    requirements = problem.requirements.model_copy(update={"must_have": must})
    return problem.model_copy(update={"requirements": requirements})


def steadier(problem: Problem) -> Iterator[Problem]:
    """The problem without its least reliable nodes, then without the next ones."""
    shares = {node.id: node_up_share(problem.cluster, node.id) for node in allowed_nodes(problem)}
    levels = sorted(set(shares.values()))[1:]
    for level in levels[:: max(1, len(levels) // _LEVELS)]:
        yield without_nodes(problem, {name for name, share in shares.items() if share < level})


def _one_more(problem: Problem, plan: Plan, index: int, reached: float) -> Plan | None:
    """The plan with one more standby for a pipeline; None where none helps."""
    must = problem.requirements.must_have
    taken = {*plan.nodes, *(standby.node for standby in plan.standbys)}
    mine = {standby.node for standby in plan.standbys if standby.pipeline == index}
    if len(mine) >= MOST or (must.max_nodes is not None and len(taken) >= must.max_nodes):
        return None
    best: tuple[float, str, Plan] | None = None
    tried: set[Node] = set()
    for node in allowed_nodes(problem):
        alike = node.model_copy(update={"id": ""})
        if node.id in taken or alike in tried:
            continue
        more = _with(problem, plan, index, node.id)
        if more is None:
            continue
        if not any(node.id in (link.src, link.dst) for link in problem.cluster.links):
            tried.add(alike)
        gain = pipeline_availability(problem.cluster, more, index) - reached
        rank = (-gain / (node.usd_per_hour + 1e-3), node.id, more)
        if gain > 1e-12 and (best is None or rank[:2] < best[:2]):
            best = rank
    return best[2] if best else None


def _with(problem: Problem, plan: Plan, index: int, name: str) -> Plan | None:
    """The plan with a node standing by for the stages of a pipeline that it can hold."""
    pipeline = plan.pipelines[index]
    room, cluster = capacity_bytes(problem, name), problem.cluster
    ends = (cluster.coordinator, *pipeline.nodes, cluster.coordinator)
    able = [
        stage
        for stage, held in enumerate(pipeline.stages)
        if stage_needs(problem, held, pipeline.max_num_seqs, name).total_bytes <= room
        and cluster.connected(ends[stage], name)
        and cluster.connected(name, ends[stage + 2])
        and cluster.connected(cluster.coordinator, name)
        and fate(cluster, name) != fate(cluster, held.node)
    ]
    if not able:
        return None
    backed = {one.stage for one in plan.standbys if one.pipeline == index and one.state == "hot"}

    def order(stage: int) -> tuple[bool, float, int]:
        return stage in backed, node_up_share(cluster, pipeline.stages[stage].node), stage

    first = min(able, key=order)
    ready = [
        Standby(node=name, pipeline=index, stage=stage, state="hot" if stage == first else "cold")
        for stage in able
    ]
    return plan.model_copy(update={"standbys": (*plan.standbys, *ready)})
