"""Exact: the best plan of every structure where all multisets of nodes can be searched.

A problem that leaves open where its coordinator sits, or how many tokens are drafted, is searched
for every seat that differs and every number. Once two of them have plans, a structure elsewhere is
searched only where its bound is below the second best: what is chosen is exact, and so is what the
next best seat or number costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from planner.core.choice import seated
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.branches import leaves
from planner.plan.choices import mixes, most_replicas, seats_to_try, structure_name
from planner.plan.classes import NodeClass, node_classes, states
from planner.plan.halt import Halt
from planner.plan.structure import Best, Structure
from planner.plan.tables import State
from planner.plan.teams import Teams

STATES = 1024
"""Most multisets of nodes that are searched exactly; beyond, chains are."""
ALL_STATES = 16384
"""The same over all seats of the coordinator and numbers of drafts."""


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


@dataclass(frozen=True, slots=True)
class Kind:
    """Structures of a problem that differ by their seats for users only."""

    problem: Problem
    quants: tuple[QuantScheme, ...]
    replicas: int


def exactly(
    problem: Problem, limit: int, over: Halt, *, best_only: bool = False
) -> tuple[list[Solved], list[Kind]] | None:
    """Every structure with its best plan, and what was not looked at when the search was over.

    With ``best_only`` a structure that cannot have the best plan of all gets no more than its
    bound. None where there are too many multisets.
    """
    pools = [pool_of(one) for one in leaves(problem)]
    if not all(one.whole for one in pools) or sum(len(one.every) for one in pools) > ALL_STATES:
        return None
    found, left = list[Solved](), list[Kind]()
    ladders = [
        _Ladder(pool, quants, replicas, teams)
        for pool in pools
        for quants in mixes(problem)
        for teams in [Teams.of(pool.problem, pool.classes, pool.every, quants)]
        for replicas in range(1, most_replicas(pool.problem, quants) + 1)
    ]
    if best_only and not over():
        ladders.sort(key=lambda one: one.floor)
    for ladder in ladders:
        rungs = list[Solved]()
        if not over():
            enough = _enough(pools, found)
            if best_only:
                enough = min((one.best.cost for one in found), default=math.inf)
            rungs = list(ladder.solved(limit, enough, over))
        if over() and (not rungs or any(one.best.open for one in rungs)):
            left.append(Kind(ladder.pool.problem, ladder.quants, ladder.replicas))
        else:
            found += rungs
    return found, _over_seats(left)


def _over_seats(left: Sequence[Kind]) -> list[Kind]:
    """The same with one problem for all seats of the coordinator that are left of a kind."""
    groups: dict[tuple[object, ...], list[Kind]] = {}
    for one in left:
        key = _drafts(one.problem), tuple(quant.id for quant in one.quants), one.replicas
        groups.setdefault(key, []).append(one)
    joined = list[Kind]()
    for first, *others in groups.values():
        problem = first.problem
        if others:
            seats = (one.problem.cluster.coordinator for one in (first, *others))
            problem = seated(problem, tuple(seats))
        joined.append(Kind(problem, first.quants, first.replicas))
    return joined


@dataclass
class _Ladder:
    """A structure with all its seats for users, and with fewer where more do not fit."""

    pool: Pool
    quants: tuple[QuantScheme, ...]
    replicas: int
    teams: Teams | None
    tried: dict[int, Structure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seats = seats_to_try(self.pool.problem, self.replicas)

    @property
    def floor(self) -> float:
        """What none of its plans costs less than, as far as tables tell."""
        return min(self._structure(seats).floor for seats in self.seats)

    def solved(self, limit: int, enough: float, over: Halt) -> Iterator[Solved]:
        """The rungs, with plans where these may cost less than ``enough``."""
        problem = self.pool.problem
        aside = math.isfinite(enough) and self.floor >= enough
        for seats in self.seats:
            if over() and not aside:
                return
            one, name = self._structure(seats), structure_name(self.replicas, self.quants, seats)
            best = Best(None, None, math.inf, one.floor, 0) if aside else one.best(limit, over=over)
            yield Solved(problem, name, best, one.holds)
            if problem.workload.concurrency is not None and best.plan is not None:
                break

    def _structure(self, seats: int) -> Structure:
        if seats not in self.tried:
            pool = self.pool
            nodes = pool.problem, pool.classes, pool.every
            self.tried[seats] = Structure(*nodes, self.replicas, self.quants, seats, self.teams)
        return self.tried[seats]


def _enough(pools: Sequence[Pool], found: Sequence[Solved]) -> float:
    """What a structure has to beat to matter: the second best seat and number of drafts.

    Infinite before two of each that was open have plans, and where nothing was.
    """
    if len(pools) == 1:
        return math.inf
    seconds = []
    for choice in (_seat, _drafts):
        open_to = {choice(one.problem) for one in pools}
        least: dict[object, float] = {}
        for one in found:
            key = choice(one.problem)
            least[key] = min(one.best.cost, least.get(key, math.inf))
        if len(open_to) > 1:
            seconds.append(sorted((*least.values(), math.inf, math.inf))[1])
    return max(seconds)


def _seat(problem: Problem) -> object:
    return problem.cluster.coordinator


def _drafts(problem: Problem) -> object:
    return problem.serving.draft_tokens
