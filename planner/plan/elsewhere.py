"""Elsewhere: the best plan that is known if one choice of the chosen plan were made otherwise."""

from __future__ import annotations

from typing import Literal

from planner.core.choice import decided
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import overfull
from planner.plan.solution import Solution

Known = tuple[float, Plan, Prediction]
"""Cost in the objective, plan and prediction."""


def best_with(
    problem: Problem,
    solution: Solution,
    same: Plan,
    choice: Literal["coordinator", "draft_tokens"],
) -> Known | None:
    """The best of ``same``, the chosen plan but for one choice, and of candidates that made it.

    None where neither can run and keeps the must-haves. Exact where the search was.
    """
    found = [
        (as_cost(problem, one.value), one.plan, one.prediction)
        for one in solution.candidates
        if getattr(one.plan, choice) == getattr(same, choice)
    ]
    moved = _known(problem, same)
    return min([*found, *([moved] if moved else [])], key=lambda one: one[0], default=None)


def _known(problem: Problem, plan: Plan) -> Known | None:
    if overfull(decided(problem, plan), plan):
        return None
    try:
        prediction = predict(problem, plan)
    except LookupError:
        return None
    value = objective_value(problem, prediction.metrics)
    if value is None or not admissible(problem, plan, prediction):
        return None
    return as_cost(problem, value), plan, prediction
