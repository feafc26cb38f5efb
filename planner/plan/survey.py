"""Survey: structures on clusters beyond the exact search, the promising ones looked at closely."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import replace

from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.choices import good_enough, most_replicas, seats_to_try, structure_name
from planner.plan.classes import node_classes
from planner.plan.costs import lines
from planner.plan.large import Large
from planner.plan.structure import Best

_LOOKS = 16
"""Structures that are looked at closely."""
_EFFORT = 200
"""Relaxations solved for one structure."""


def surveyed(problem: Problem) -> Iterator[tuple[str, Best, bool]]:
    """Every structure with a good plan and a bound; fewer seats than users if more do not fit.

    All get a plan; then, again and again, the one with the least bound is looked at closely, until
    that is one that was looked at before.
    """
    classes = node_classes(problem)
    between = lines(problem, classes)
    structures: list[tuple[int, QuantScheme, int]] = []
    found, holds, incumbent = list[Best](), list[bool](), math.inf
    shapes = [
        (quant, replicas)
        for quant in good_enough(problem)
        for replicas in range(1, most_replicas(problem, quant) + 1)
    ]
    for quant, replicas in shapes:
        for seats in seats_to_try(problem, replicas):
            structures.append((replicas, quant, seats))
            one = Large(problem, classes, *structures[-1], between)
            found.append(one.first())
            holds.append(one.holds)
            incumbent = min(incumbent, found[-1].cost)
            if problem.workload.concurrency is not None and found[-1].plan is not None:
                break
    bounds = [(best.bound, index) for index, best in enumerate(found)]
    heapq.heapify(bounds)
    looked_at: set[int] = set()
    while bounds[0][0] < incumbent and bounds[0][1] not in looked_at:
        if len(looked_at) >= _LOOKS:
            break
        _, index = heapq.heappop(bounds)
        one = Large(problem, classes, *structures[index], between)
        best = one.best(incumbent, _EFFORT)
        found[index] = min(best, found[index], key=lambda one: one.cost)
        bound = max(best.bound, found[index].bound)
        found[index] = replace(found[index], bound=min(bound, found[index].cost))
        incumbent = min(incumbent, found[index].cost)
        looked_at.add(index)
        heapq.heappush(bounds, (bound, index))
    for (replicas, quant, seats), best, held in zip(structures, found, holds, strict=True):
        yield structure_name(replicas, quant.id, seats), best, held
