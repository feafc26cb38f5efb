"""Branches: the narrower problems into which one with choices beside its stages falls.

A problem may leave open how many tokens are drafted for a check, and is then one problem for each
number; and where its coordinator sits, which is nowhere that has no room for its draft. Bounds of
an open problem hold over all its seats: hops to and from the coordinator take what they take at the
best seat for each node. Seats that could be swapped count once; the others fall apart by region,
then one by one.
"""

from __future__ import annotations

import math

from planner.core.choice import drafting, drafts_open, seat_open, seated
from planner.core.cluster import Node
from planner.core.cost.traversal import route
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.classes import node_classes
from planner.plan.room import draft_missing_bytes

_TRIED = 4
"""Seats that are tried for a plan whose stages are given, the nearest first."""


def seat_classes(problem: Problem) -> tuple[tuple[str, ...], ...]:
    """The seats, those together that could be swapped without changing anything."""
    cluster = problem.cluster
    named = {end for link in cluster.links for end in (link.src, link.dst)}
    worker = {
        name: number for number, one in enumerate(node_classes(problem)) for name in one.nodes
    }
    groups: dict[int | str | Node, list[str]] = {}
    for name in cluster.seats:
        alike = name if name in named else cluster.node(name).model_copy(update={"id": ""})
        groups.setdefault(worker.get(name, alike), []).append(name)
    return tuple(map(tuple, groups.values()))


def distinct_seats(problem: Problem) -> Problem:
    """The problem with one seat of each class; itself where the coordinator's seat is settled."""
    if not seat_open(problem):
        return problem
    return seated(problem, tuple(names[0] for names in seat_classes(problem)))


def by_drafts(problem: Problem) -> list[Problem]:
    """One problem for every number of drafts, the fewest first; itself where that is settled.

    Each has the seats of the coordinator at which its draft fits; one that fits at none is no part.
    """
    each = [problem]
    if drafts_open(problem):
        each = [drafting(problem, count) for count in range(problem.serving.draft_tokens + 1)]
    return [one for drafted in each for one in _roomy(drafted)]


def _roomy(problem: Problem) -> list[Problem]:
    """The problem without the seats at which its draft does not fit; nothing if that is all."""
    seats = problem.cluster.seats
    able = tuple(name for name in seats if not draft_missing_bytes(problem, name))
    if able == seats:
        return [problem]
    return [seated(problem, able)] if able else []


def leaves(problem: Problem) -> list[Problem]:
    """One problem for every seat that differs and number of drafts, with nothing left to choose."""
    seats = distinct_seats(problem).cluster.seats
    settled = [seated(problem, (name,)) for name in seats] if seat_open(problem) else [problem]
    return [one for seat in settled for one in by_drafts(seat)]


def narrower(problem: Problem) -> list[Problem]:
    """An open problem's parts: its seats by region, or each alone where they are in one."""
    by_region: dict[str, list[str]] = {}
    for name in problem.cluster.seats:
        by_region.setdefault(problem.cluster.node(name).region, []).append(name)
    if len(by_region) == 1:
        return [seated(problem, (name,)) for name in problem.cluster.seats]
    return [seated(problem, tuple(names)) for names in by_region.values()]


def every_seat(problem: Problem, plan: Plan) -> list[Plan]:
    """The plan with its coordinator at each of the nearest seats; itself where that is settled.

    Near are those with the least latency over all hops that begin or end there.
    """
    if not seat_open(problem):
        return [plan]
    cluster = problem.cluster

    def away_s(name: str) -> float:
        """Latency of all hops from and to a seat; infinite where one has no line."""
        there = seated(problem, (name,))
        hops = [ends for one in plan.pipelines for ends in route(there, one.nodes)]
        if not all(cluster.connected(*ends) for ends in hops):
            return math.inf
        links = [cluster.link(*ends) for ends in hops if name in ends]
        return sum(link.one_way_latency_s for link in links if link is not None)

    ranked = sorted((away_s(name), at, name) for at, name in enumerate(cluster.seats))
    tried = [name for away, _, name in ranked if math.isfinite(away)][:_TRIED]
    return [plan.model_copy(update={"coordinator": name}) for name in tried]
