"""Widen: the change with which something can hold the model, tried until the search has a plan."""

from __future__ import annotations

from collections.abc import Iterator

from planner.core.problem import Problem
from planner.plan.changes import (
    fewer_barred,
    less_trust,
    lower_quality,
    more_nodes,
    more_regions,
    undrafted,
)
from planner.plan.infeasible import NoPlanError, near_miss, proposed
from planner.plan.mend import Mend, Search
from planner.plan.solution import Candidate
from planner.plan.together import together


def widened(problem: Problem, error: NoPlanError, search: Search) -> NoPlanError:
    """The error with the smallest change that makes a plan possible, and that plan.

    Several changes where none is enough by itself.
    """
    for mend in _changes(problem):
        if found := search(mend.applied):
            return _mended(error, (mend,), found[0])
    several = together(problem, search)
    return _mended(error, *several) if several else error


def _changes(problem: Problem) -> Iterator[Mend]:
    if drafted_out := undrafted(problem):
        yield drafted_out
        return
    yield from lower_quality(problem)
    yield from more_regions(problem)
    yield from fewer_barred(problem)
    yield from less_trust(problem)
    yield from more_nodes(problem)


def _mended(error: NoPlanError, mends: tuple[Mend, ...], best: Candidate) -> NoPlanError:
    nearest = near_miss(mends[-1].applied, best.plan, best.value)
    hint = error.hint + proposed(mends)
    return NoPlanError(error.constraint, error.message, hint, nearest, mends)
