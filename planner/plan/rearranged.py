"""Rearranged: plans whose standbys differ in one thing, for a search among them.

A node stands by that did not, or no more, or in another state, earlier or later than others of its
stage, for another pipeline, or in the place of another one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import combinations

from planner.core.cluster import Node
from planner.core.cost.availability import fate
from planner.core.plan import Plan, Readiness, Standby
from planner.core.problem import Problem
from planner.plan.classes import allowed_nodes
from planner.plan.room import capacity_bytes, stage_needs

MOST = 6
"""Standbys of one pipeline at most; the chances of all their states are summed."""
READY: tuple[Readiness, ...] = ("hot", "warm", "cold")
FEW = 4
"""Pipelines up to which nodes change from one to another."""


def neighbours(problem: Problem, plan: Plan) -> Iterator[Plan]:
    """The plan without one of its standby nodes, with another in its place, or in other states."""
    for name in dict.fromkeys(one.node for one in plan.standbys):
        rest = tuple(one for one in plan.standbys if one.node != name)
        without = plan.model_copy(update={"standbys": rest})
        yield without
        index = next(one.pipeline for one in plan.standbys if one.node == name)
        yield from with_one_more(problem, without, index)
        if len(plan.pipelines) <= FEW:
            yield from _moved(problem, without, name, index)
    for at, one in enumerate(plan.standbys):
        rest = (*plan.standbys[:at], *plan.standbys[at + 1 :])
        yield plan.model_copy(update={"standbys": rest})
        for state in READY:
            if state == one.state:
                continue
            others = tuple(
                other.model_copy(update={"state": "warm"})
                if state == "hot" and other.node == one.node and other.state == "hot"
                else other
                for other in rest
            )
            changed = (*others[:at], one.model_copy(update={"state": state}), *others[at:])
            yield from _in_turn(plan, changed)
    yield from _reordered(plan)
    if len(plan.pipelines) <= FEW:
        yield from _exchanged(problem, plan)


def _reordered(plan: Plan) -> Iterator[Plan]:
    """The plan with two nodes that stand by for one stage taking over in the other order."""
    for (at, one), (later, other) in combinations(enumerate(plan.standbys), 2):
        if (one.pipeline, one.stage) == (other.pipeline, other.stage):
            order = list(plan.standbys)
            order[at], order[later] = other, one
            yield plan.model_copy(update={"standbys": tuple(order)})


def _moved(problem: Problem, plan: Plan, name: str, index: int) -> Iterator[Plan]:
    """The plan with a node for another pipeline than that, for which another one may join."""
    for other in range(len(plan.pipelines)):
        if other != index:
            for moved in with_one_more(problem, plan, other, name):
                yield moved
                yield from with_one_more(problem, moved, index)


def _exchanged(problem: Problem, plan: Plan) -> Iterator[Plan]:
    """The plan with two of its standby nodes in each other's places, there or in their own states.

    Only a node that stands by for one stage takes its own state along: of several one may be hot.
    """
    mine: dict[str, list[Standby]] = {}
    for one in plan.standbys:
        mine.setdefault(one.node, []).append(one)
    for first, second in combinations(mine, 2):
        stands = {first: second, second: first}
        able = {
            (name, index): _able(problem, plan, index, name)
            for name in stands
            for index in {one.pipeline for one in mine[stands[name]]}
        }
        if not all(
            one.stage in able[name, one.pipeline] for name in stands for one in mine[stands[name]]
        ):
            continue
        named = [
            one.model_copy(update={"node": stands.get(one.node, one.node)}) for one in plan.standbys
        ]
        yield plan.model_copy(update={"standbys": tuple(named)})
        if len(mine[first]) == len(mine[second]) == 1:
            kept = (
                one.model_copy(update={"state": mine[one.node][0].state})
                if one.node in stands
                else one
                for one in named
            )
            yield plan.model_copy(update={"standbys": tuple(kept)})


def with_one_more(
    problem: Problem, plan: Plan, index: int, only: str | None = None
) -> Iterator[Plan]:
    """The plan with one more node for a pipeline, hot for each stage in turn, or warm for others.

    Where others stand by already it takes over after those that are as ready, or before them.
    """
    must = problem.requirements.must_have
    taken = {*plan.nodes, *(standby.node for standby in plan.standbys)}
    mine = {standby.node for standby in plan.standbys if standby.pipeline == index}
    if len(mine) >= MOST or (must.max_nodes is not None and len(taken) >= must.max_nodes):
        return
    tried: set[Node] = set()
    for node in allowed_nodes(problem):
        alike = node.model_copy(update={"id": ""})
        if node.id in taken or alike in tried or node.id != (only or node.id):
            continue
        able = _able(problem, plan, index, node.id)
        if not any(node.id in (link.src, link.dst) for link in problem.cluster.links):
            tried.add(alike)
        taken_over = {(one.pipeline, one.stage) for one in plan.standbys}
        shared = any((index, stage) in taken_over for stage in able)
        for first, others in itertools.product(able, ((), able) if len(able) > 1 else ((),)):
            ready = tuple(
                Standby(
                    node=node.id,
                    pipeline=index,
                    stage=stage,
                    state="hot" if stage == first else "warm",
                )
                for stage in (others or (first,))
            )
            yield _with(plan, (*plan.standbys, *ready))
            if shared:
                yield _with(plan, (*ready, *plan.standbys))


def _in_turn(plan: Plan, standbys: tuple[Standby, ...]) -> Iterator[Plan]:
    """The plan with these standbys in this order, and with the readiest first."""
    yield plan.model_copy(update={"standbys": standbys})
    ordered = _with(plan, standbys)
    if ordered.standbys != standbys:
        yield ordered


def _with(plan: Plan, standbys: Sequence[Standby]) -> Plan:
    """The plan with these standbys, the readiest first: they take over in this order."""
    ordered = sorted(standbys, key=lambda one: READY.index(one.state))
    return plan.model_copy(update={"standbys": tuple(ordered)})


def _able(problem: Problem, plan: Plan, index: int, name: str) -> list[int]:
    """Stages of a pipeline that a node can hold and does not go together with."""
    pipeline = plan.pipelines[index]
    room, cluster = capacity_bytes(problem, name), problem.cluster
    ends = (cluster.coordinator, *pipeline.nodes, cluster.coordinator)
    return [
        stage
        for stage, held in enumerate(pipeline.stages)
        if stage_needs(problem, held, pipeline.max_num_seqs, name).total_bytes <= room
        and cluster.connected(ends[stage], name)
        and cluster.connected(name, ends[stage + 2])
        and cluster.connected(cluster.coordinator, name)
        and cluster.node(held.node).churn
        and fate(cluster, name) != fate(cluster, held.node)
    ]
