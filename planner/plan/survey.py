"""Survey: structures on clusters beyond the exact search, the promising ones looked at closely."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from planner.core.choice import is_open, seat_open
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.branches import by_drafts, distinct_seats, narrower
from planner.plan.choices import mixes, most_replicas, seats_to_try, structure_name
from planner.plan.classes import few_apart, node_classes
from planner.plan.columns import Known
from planner.plan.costs import lines
from planner.plan.exact import Kind, Solved
from planner.plan.halt import Halt, never
from planner.plan.large import Large
from planner.plan.structure import Best

LOOKS = 24
"""Looks at structures in all, the one with the least bound first."""
_OPEN = 2
"""Times as many where the coordinator's seat or the number of drafts is open."""
_EFFORT = 200
"""Relaxations solved for one pipeline in one look."""
_TURNS = 10
"""Turns of column generation for replicas in one look."""
_KEPT = 400
"""Classes of nodes up to which what a look has found is kept for the next."""


@dataclass
class Looked:
    """A structure, over all seats of an open problem or one, as far as it was looked at."""

    problem: Problem
    quants: tuple[QuantScheme, ...]
    replicas: int
    seats: int
    field: _Field
    best: Best
    holds: bool
    """Whether the model fits at all."""
    slack: float
    """The gap at which it is left alone."""
    search: Large | None = None
    done: bool = False
    """Whether another look would find nothing new."""

    @property
    def name(self) -> str:
        """What tables of candidates call it."""
        return structure_name(self.replicas, self.quants, self.seats)

    @property
    def solved(self) -> Solved:
        """What it came to."""
        return Solved(self.problem, self.name, self.best, self.holds)

    def look(self, incumbent: float) -> None:
        """Looks closely; what that found is kept for the next time."""
        if self.search is None:
            self.search = self.field.large(self.quants, self.replicas, self.seats)
        best = self.search.best(incumbent, _EFFORT if self.replicas == 1 else _TURNS)
        before, known = self.best.bound, min(best, self.best, key=lambda one: one.cost)
        self.best = replace(known, bound=min(max(before, best.bound), known.cost))
        apart = self.replicas == 1 and seat_open(self.problem)
        if apart or len(self.field.classes) > _KEPT or self.search.settled:
            self.done, self.search = True, None


@dataclass
class _Field:
    """A problem, and what all its structures share."""

    problem: Problem
    over: Halt = never

    def __post_init__(self) -> None:
        self.classes = few_apart(node_classes(self.problem))
        self.between, self.known = lines(self.problem, self.classes), Known()

    def large(self, quants: tuple[QuantScheme, ...], replicas: int, seats: int) -> Large:
        """The search of one structure."""
        return Large(
            self.problem,
            self.classes,
            replicas,
            quants,
            seats,
            self.between,
            self.known,
            self.over,
        )

    def started(
        self,
        quants: tuple[QuantScheme, ...],
        replicas: int,
        ladder: Sequence[int],
    ) -> Iterator[Looked]:
        """One structure with a plan; with fewer seats, too, where users find no place in more."""
        for seats in ladder:
            one = self.large(quants, replicas, seats)
            best = one.first(brief=self.over())
            found = Looked(self.problem, quants, replicas, seats, self, best, one.holds, one.enough)
            if len(self.classes) <= _KEPT:
                found.search = one
            yield found
            if self.problem.workload.concurrency is not None and best.plan is not None:
                break


def every(problem: Problem) -> Iterator[Kind]:
    """Every structure over all seats of the coordinator."""
    for one in by_drafts(distinct_seats(problem)):
        for quants in mixes(problem):
            for replicas in range(1, most_replicas(one, quants) + 1):
                yield Kind(one, quants, replicas)


def surveyed(
    problem: Problem,
    looks: int = LOOKS,
    over: Halt = never,
    left: Sequence[Kind] | None = None,
    known: bool = False,
) -> list[Looked]:
    """Every structure with a good plan and a bound; fewer seats than users if more do not fit.

    All get a plan. The one with the best of them is looked at closely, for others have to beat it;
    then, again and again, the one with the least bound, until that is one with nothing new in it or
    the search is over. What was looked at over several seats of the coordinator is then looked at
    over fewer of them. Once it is over and a plan is ``known``, what is ``left`` (every structure,
    unless told) gets little more than its bound.
    """
    found = list[Looked]()

    def brief() -> bool:
        return over() and (known or any(one.best.plan is not None for one in found))

    starts: dict[tuple[object, ...], _Field] = {}
    for one in left if left is not None else every(problem):
        key = one.problem.cluster.seats, one.problem.serving.draft_tokens
        if key not in starts:
            starts[key] = _Field(one.problem, brief)
        ladder = seats_to_try(problem, one.replicas)
        for looked in starts[key].started(one.quants, one.replicas, ladder):
            found.append(looked)
    fields: dict[tuple[object, ...], _Field] = {}
    incumbent = min(each.best.cost for each in found)
    turns = looks * _OPEN if is_open(problem) else looks
    ahead = min(found, key=lambda each: each.best.cost)
    if turns and not over() and ahead.best.bound < incumbent - ahead.slack * abs(incumbent):
        turns -= 1
        ahead.look(incumbent)
        incumbent = ahead.best.cost
    bounds = [(each.best.bound, index) for index, each in enumerate(found)]
    heapq.heapify(bounds)
    while bounds and turns and not over():
        before, index = bounds[0]
        looked = found[index]
        if before >= incumbent - looked.slack * abs(incumbent):
            break
        if not looked.done:
            turns -= 1
            looked.look(incumbent)
            heapq.heapreplace(bounds, (looked.best.bound, index))
        elif seat_open(looked.problem):
            heapq.heappop(bounds)
            for part in _parts(looked, fields, brief):
                heapq.heappush(bounds, (part.best.bound, len(found)))
                found.append(part)
                if over():
                    break
            else:
                looked.best = replace(looked.best, bound=math.inf)
        else:
            break
        incumbent = min(incumbent, *(each.best.cost for each in found))
    return found


def _parts(one: Looked, fields: dict[tuple[object, ...], _Field], over: Halt) -> Iterator[Looked]:
    """The same structure over fewer seats of the coordinator; no bound is below the whole's."""
    rungs = seats_to_try(one.problem, one.replicas)
    for problem in narrower(one.problem):
        key = problem.cluster.seats, problem.serving.draft_tokens
        if key not in fields:
            fields[key] = _Field(problem, over)
        field = fields[key]
        ladder = rungs[rungs.index(one.seats) :]
        for part in field.started(one.quants, one.replicas, ladder):
            if part.seats == one.seats:
                bound = min(max(part.best.bound, one.best.bound), part.best.cost)
                part.best = replace(part.best, bound=bound)
            yield part


def bounded(problem: Problem) -> float:
    """A bound over all structures, no plan being looked for."""
    return min(map(_bounded, by_drafts(distinct_seats(problem))))


def _bounded(problem: Problem) -> float:
    """The same for one number of drafts."""
    field, least = _Field(problem), math.inf
    for quants in mixes(problem):
        for replicas in range(1, most_replicas(problem, quants) + 1):
            for seats in seats_to_try(problem, replicas):
                least = min(least, field.large(quants, replicas, seats).bound())
    return least
