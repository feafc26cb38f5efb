"""Together: changes that make a plan possible only with one another.

What must-haves say of who may hold layers, and in which quality, is dropped first, and nodes are
added if that is not enough. Then it comes back, the dearest to change first, as it was asked or as
little changed as a plan allows. In the end bounds on numbers move to what a plan needs of them:
as few bounds as any plan that was found needs, and of these the ones that move least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.changes import (
    fewer_barred,
    less_trust,
    lower_quality,
    more_nodes,
    more_regions,
    undrafted,
)
from planner.plan.infeasible import (
    NoPlanError,
    missed_bounds,
    near_miss,
    relaxed_problem,
    with_objective,
)
from planner.plan.mend import (
    Mend,
    Search,
    cheapest_mend,
    distance,
    moves,
    numbers,
    serving,
    with_must,
)
from planner.plan.solution import Candidate, Solution
from planner.plan.standby import protected

_COMING_BACK: tuple[tuple[str, Callable[[Problem], Iterator[Mend]]], ...] = (
    ("trust", less_trust),
    ("forbid_regions", fewer_barred),
    ("regions", more_regions),
    ("quality", lower_quality),
)
_TRIED = 3
"""Ways to move bounds that are tried, the smallest first."""


def unmet(problem: Problem, nearest: Solution, search: Search) -> NoPlanError:
    """That no plan keeps the must-haves, and the smallest change, or changes, with which one does.

    ``nearest`` is what comes nearest by itself.
    """
    if mend := cheapest_mend(problem, search):
        return missed_bounds(problem, nearest, (mend,))
    if several := together(problem, search):
        mends, best = several
        return missed_bounds(problem, near_miss(problem, best.plan, best.value), mends)
    return missed_bounds(problem, nearest, ())


def together(problem: Problem, search: Search) -> tuple[tuple[Mend, ...], Candidate] | None:
    """Changes one after another, and the best plan with them; None where none was found.

    The last one's problem has them all.
    """
    held = _held(problem, search)
    if held is None:
        return None
    changes, able = held
    for bounds in islice(_ways(able, search), _TRIED):
        mends = (*changes, *bounds)
        applied = bounds[-1].applied if bounds else able
        if mends and (found := search(applied)):
            return (*mends[:-1], replace(mends[-1], applied=applied)), found[0]
    return None


def _held(problem: Problem, search: Search) -> tuple[list[Mend], Problem] | None:
    """What to change but numbers, and the problem with it: it has plans if numbers do not count."""

    def possible(one: Problem) -> bool:
        """Whatever the objective; the search is quickest where that is a sum of times."""
        return bool(search(with_objective(relaxed_problem(one), "mean_tpot_ms")))

    must, mends = problem.requirements.must_have, list[Mend]()
    if drafted_out := undrafted(problem):
        mends, problem = [drafted_out], drafted_out.applied
    for field, _ in _COMING_BACK:
        problem = with_must(problem, field, () if field == "forbid_regions" else None)
    if not possible(problem):
        added = next((one for one in more_nodes(problem) if possible(one.applied)), None)
        if added is None:
            return None
        mends, problem = [*mends, added], added.applied
    for field, changes in _COMING_BACK:
        asked = with_must(problem, field, getattr(must, field))
        if asked == problem or possible(asked):
            problem = asked
        elif change := next((one for one in changes(asked) if possible(one.applied)), None):
            mends, problem = [*mends, change], change.applied
    return mends, problem


def _ways(problem: Problem, search: Search) -> Iterator[tuple[Mend, ...]]:
    """Bounds on numbers moved so that a plan keeps them, fewest first, none where that will do."""
    free, names = relaxed_problem(problem), numbers(problem)
    wanted = [free, *(serving(free, name) for name in names)]
    plans: dict[Plan, None] = {}
    for apart in {one.requirements.objective: one for one in wanted}.values():
        for one in search(apart):
            plans[one.plan] = None
            if {"availability", "request_goodput"} & set(names):
                plans[protected(problem, one.plan)] = None
    ways = [bounds for plan in plans if (bounds := moves(problem, plan)) is not None]
    once = {tuple((one.name, one.value) for one in bounds): bounds for bounds in ways}
    yield from sorted(once.values(), key=lambda way: (len(way), sum(map(distance, way))))
