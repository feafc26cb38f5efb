"""Fallback: what is left of a plan when one of its nodes goes."""

from __future__ import annotations

from planner.core.choice import decided, seat_open, seated, stamped
from planner.core.plan import Pipeline
from planner.core.problem import Problem
from planner.plan.branches import by_drafts, distinct_seats
from planner.plan.choices import seats_to_try
from planner.plan.classes import allowed_nodes, without_nodes
from planner.plan.columns import Known
from planner.plan.costs import lines
from planner.plan.exact import pool_of
from planner.plan.halt import Halt, never
from planner.plan.large import Large
from planner.plan.promise import as_cost
from planner.plan.solution import Candidate, Solution
from planner.plan.structure import Structure
from planner.plan.teams import Teams

_SEATS = 4
"""Other seats of the coordinator that are looked at where its node leaves."""


def without_each(
    problem: Problem, solution: Solution, limit: int, over: Halt = never
) -> dict[str, Candidate | None] | None:
    """By node whose loss is looked at: the best plan of the same kind without it.

    Nodes are looked at until it is over; None where it was before the first.
    """
    asked, first = problem, solution.plan.pipelines[0]
    problem = decided(problem, solution.plan)
    layers = {
        stage.node: stage.stop - stage.start
        for pipeline in solution.plan.pipelines
        for stage in pipeline.stages
    }
    most = 3 if solution.moves is None else 1
    looked_at = sorted(layers, key=lambda node: (-layers[node], node))[:most]
    found: dict[str, Candidate | None] = {}
    for name in looked_at:
        if over():
            return found or None
        homes = [problem]
        if name == problem.cluster.coordinator:
            homes = [seated(problem, (seat,)) for seat in _seats_without(asked, name)]
        each = [
            _best_alone(without_nodes(home, {name}), asked, limit, first, over) for home in homes
        ]
        able = [one for one in each if one is not None]
        if over() and not able:  # nobody knows, then
            return found or None
        if homes:
            found[name] = min(able, key=lambda one: as_cost(problem, one.value), default=None)
    return found


def _seats_without(problem: Problem, gone: str) -> list[str]:
    """Where the coordinator may sit once a node has left; a few of them, none where it may not."""
    if not seat_open(problem):
        return []
    left = [name for name in problem.cluster.seats if name != gone]
    return list(distinct_seats(seated(problem, tuple(left))).cluster.seats)[:_SEATS]


def _best_alone(
    problem: Problem, asked: Problem, limit: int, like: Pipeline, over: Halt
) -> Candidate | None:
    """The best single pipeline in one quantization, that of ``like``; None where there is none.

    The coordinator's seat is settled, though ``asked`` may have left it open.
    """
    if not allowed_nodes(problem) or not by_drafts(problem):
        return None
    pool, quants = pool_of(problem), (problem.quant(like.stages[0].quant),)
    between = None if pool.whole else lines(problem, pool.classes)
    for seats in seats_to_try(problem, 1):
        if between is None:
            nodes = problem, pool.classes, pool.every
            one = Structure(*nodes, 1, quants, seats, Teams.of(*nodes, quants))
            best = one.best(limit, over=over)
        else:
            best = Large(problem, pool.classes, 1, quants, seats, between, Known(), over).first()
        if best.plan is not None and best.prediction is not None:
            value, plan = as_cost(problem, best.cost), stamped(best.plan, asked, problem)
            return Candidate(name="fallback", plan=plan, prediction=best.prediction, value=value)
    return None
