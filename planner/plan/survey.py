"""Survey: structures on clusters beyond the exact search, the promising ones looked at closely."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.choices import mixes, most_replicas, seats_to_try, structure_name
from planner.plan.classes import few_apart, node_classes
from planner.plan.columns import Known
from planner.plan.costs import lines
from planner.plan.large import Large
from planner.plan.structure import Best

Halt = Callable[[], bool]
"""Whether the search is to end."""

LOOKS = 24
"""Looks at structures in all, the one with the least bound first."""
_EFFORT = 200
"""Relaxations solved for one pipeline, which is looked at once."""
_TURNS = 10
"""Turns of column generation for replicas in one look."""
_KEPT = 400
"""Classes of nodes up to which what a look has found is kept for the next."""


def never() -> bool:
    """Searches come to their end."""
    return False


def surveyed(
    problem: Problem, looks: int = LOOKS, over: Halt = never
) -> Iterator[tuple[str, Best, bool]]:
    """Every structure with a good plan and a bound; fewer seats than users if more do not fit.

    All get a plan; then, again and again, the one with the least bound is looked at closely, until
    that is one that was looked at before or the search is over.
    """
    classes = few_apart(node_classes(problem))
    between, known = lines(problem, classes), Known()
    structures: list[tuple[int, tuple[QuantScheme, ...], int]] = []
    found, holds, slack, incumbent = list[Best](), list[bool](), list[float](), math.inf
    shapes = [
        (quants, replicas)
        for quants in mixes(problem)
        for replicas in range(1, most_replicas(problem, quants) + 1)
    ]
    for quants, replicas in shapes:
        for seats in seats_to_try(problem, replicas):
            structures.append((replicas, quants, seats))
            one = Large(problem, classes, *structures[-1], between, known)
            found.append(one.first())
            slack.append(one.enough)
            holds.append(one.holds)
            incumbent = min(incumbent, found[-1].cost)
            if problem.workload.concurrency is not None and found[-1].plan is not None:
                break
    kept, done = dict[int, Large](), set[int]()
    bounds = [(best.bound, index) for index, best in enumerate(found)]
    heapq.heapify(bounds)
    for _ in range(looks):
        before, index = bounds[0]
        if before >= incumbent - slack[index] * abs(incumbent) or index in done or over():
            break
        once = structures[index][0] == 1 or len(classes) > _KEPT
        if index not in kept:
            kept[index] = Large(problem, classes, *structures[index], between, known)
        best = kept[index].best(incumbent, _EFFORT if structures[index][0] == 1 else _TURNS)
        found[index] = min(best, found[index], key=lambda one: one.cost)
        bound = min(max(before, best.bound), found[index].cost)
        found[index] = replace(found[index], bound=bound)
        incumbent = min(incumbent, found[index].cost)
        heapq.heapreplace(bounds, (bound, index))
        if once or kept[index].settled:
            done.add(index)
            del kept[index]
    for (replicas, quants, seats), best, held in zip(structures, found, holds, strict=True):
        yield structure_name(replicas, quants, seats), best, held


def bounded(problem: Problem) -> float:
    """A bound over all structures, no plan being looked for."""
    classes, known, least = node_classes(problem), Known(), math.inf
    between = lines(problem, classes)
    for quants in mixes(problem):
        for replicas in range(1, most_replicas(problem, quants) + 1):
            for seats in seats_to_try(problem, replicas):
                one = Large(problem, classes, replicas, quants, seats, between, known)
                least = min(least, one.bound())
    return least
