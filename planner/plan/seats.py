"""Seats: what it would cost if the coordinator sat elsewhere."""

from __future__ import annotations

from planner.core.choice import seat_open
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import OBJECTIVES
from planner.plan.branches import distinct_seats
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.solution import Seat, Solution

_TOLD = 4
"""Other seats that are told of at most, the best first."""
_MOVED = 24
"""Seats to which the plan is moved at most, in the order of the scenario."""


def other_seats(problem: Problem, solution: Solution) -> tuple[Seat, ...]:
    """The next best seats: the best plan that was found for each, or the chosen one moved there.

    None where the seat was not the plan's to choose.
    """
    if not seat_open(problem):
        return ()
    best: dict[str, tuple[float, Plan]] = {}
    for one in solution.candidates:
        _keep(best, as_cost(problem, one.value), one.plan)
    for name in distinct_seats(problem).cluster.seats[:_MOVED]:
        moved = solution.plan.model_copy(update={"coordinator": name})
        cost = _cost(problem, moved)
        if cost is not None:
            _keep(best, cost, moved)
    here = solution.plan.coordinator
    ranked = sorted((cost, name) for name, (cost, _) in best.items() if name != here)
    return tuple(_told(problem, solution, *best[name]) for _, name in ranked[:_TOLD])


def _keep(best: dict[str, tuple[float, Plan]], cost: float, plan: Plan) -> None:
    name = plan.coordinator or ""
    if name not in best or cost < best[name][0]:
        best[name] = cost, plan


def _cost(problem: Problem, plan: Plan) -> float | None:
    """What a plan costs in the objective; None where it cannot run or misses a must-have."""
    try:
        prediction = predict(problem, plan)
    except LookupError:
        return None
    value = objective_value(problem, prediction.metrics)
    if value is None or not admissible(problem, plan, prediction):
        return None
    return as_cost(problem, value)


def _told(problem: Problem, solution: Solution, cost: float, plan: Plan) -> Seat:
    value, (_, unit, _) = as_cost(problem, cost), OBJECTIVES[problem.requirements.objective]
    same = plan.pipelines == solution.plan.pipelines
    how = (
        "with the same stages"
        if same
        else " and ".join(" -> ".join(one.nodes) for one in plan.pipelines)
    )
    text = f"{value:.4g} instead of {solution.value:.4g} {unit}, {how}"
    return Seat(node=plan.coordinator or "", value=value, same_stages=same, text=text)
