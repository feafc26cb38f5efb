"""Exact: the best plan of every structure where all multisets of nodes can be searched.

A problem that leaves open where its coordinator sits is searched for every seat that differs. Once
two seats have plans, a structure at another one is searched only where its bound is below the
second best of them: what is chosen and what the next best seat costs are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.branches import leaves
from planner.plan.choices import mixes, most_replicas, seats_to_try, structure_name
from planner.plan.classes import NodeClass, node_classes, states
from planner.plan.structure import Best, Structure
from planner.plan.tables import State

STATES = 1024
"""Most multisets of nodes that are searched exactly; beyond, chains are."""
ALL_STATES = 16384
"""The same over all seats of the coordinator."""

Halt = Callable[[], bool]
"""Whether the search is to end."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes that are searched."""

    problem: Problem
    classes: tuple[NodeClass, ...]
    every: list[State]
    whole: bool
    """Whether the exact search can take all multisets."""


@dataclass(frozen=True, slots=True)
class Solved:
    """One structure of a settled problem, and the best plan that was found."""

    problem: Problem
    name: str
    best: Best
    holds: bool
    """Whether the model fits at all."""


def pool_of(problem: Problem) -> Pool:
    """The classes of a problem's nodes, and their multisets if there are few."""
    classes = node_classes(problem)
    counts = tuple(len(entry.nodes) for entry in classes)
    if math.prod(count + 1 for count in counts) > STATES:
        return Pool(problem, classes, [], whole=False)
    return Pool(problem, classes, states(counts), whole=True)


def exactly(problem: Problem, limit: int, over: Halt) -> list[Solved] | None:
    """Every structure with its best plan; None where there are too many multisets."""
    pools = [pool_of(one) for one in leaves(problem)]
    if not all(one.whole for one in pools) or sum(len(one.every) for one in pools) > ALL_STATES:
        return None
    found: list[Solved] = []
    for pool in pools:
        for quants in mixes(problem):
            for replicas in range(1, most_replicas(problem, quants) + 1):
                if over():
                    return found
                found += _rungs(pool, quants, replicas, limit, _second(found), over)
    return found


def _rungs(
    pool: Pool,
    quants: tuple[QuantScheme, ...],
    replicas: int,
    limit: int,
    enough: float,
    over: Halt,
) -> Iterator[Solved]:
    """A structure with all its seats for users; with fewer where more do not fit."""
    problem, ladder = pool.problem, seats_to_try(pool.problem, replicas)
    tried: dict[int, Structure] = {}

    def structure(seats: int) -> Structure:
        if seats not in tried:
            tried[seats] = Structure(problem, pool.classes, pool.every, replicas, quants, seats)
        return tried[seats]

    aside = math.isfinite(enough) and all(structure(seats).floor >= enough for seats in ladder)
    for seats in ladder:
        one, name = structure(seats), structure_name(replicas, quants, seats)
        best = Best(None, None, math.inf, one.floor, 0) if aside else one.best(limit, over=over)
        yield Solved(problem, name, best, one.holds)
        if problem.workload.concurrency is not None and best.plan is not None:
            break


def _second(found: list[Solved]) -> float:
    """The second least cost of all seats of the coordinator; infinite before two have plans."""
    by_seat: dict[str, float] = {}
    for one in found:
        seat = one.problem.cluster.coordinator
        by_seat[seat] = min(one.best.cost, by_seat.get(seat, math.inf))
    return sorted((*by_seat.values(), math.inf, math.inf))[1]
