"""Seats: what it would cost if the coordinator sat elsewhere."""

from __future__ import annotations

from planner.core.choice import seat_open
from planner.core.problem import Problem
from planner.core.requirements import scale
from planner.core.units import plain
from planner.plan.branches import distinct_seats
from planner.plan.elsewhere import Known, best_with
from planner.plan.promise import as_cost
from planner.plan.solution import Seat, Solution

_TOLD = 4
"""Other seats that are told of at most, the best first."""
_MOVED = 24
"""Seats that are looked at at most, in the order of the scenario."""


def other_seats(problem: Problem, solution: Solution) -> tuple[Seat, ...]:
    """The next best seats: the best plan that was found for each, or the chosen one moved there.

    None where the seat was not the plan's to choose.
    """
    if not seat_open(problem):
        return ()
    here, found = solution.plan.coordinator, list[tuple[float, str, Known]]()
    for name in distinct_seats(problem).cluster.seats[:_MOVED]:
        same = solution.plan.model_copy(update={"coordinator": name})
        best = best_with(problem, solution, same, "coordinator")
        if best is not None and name != here:
            found.append((best[0], name, best))
    found.sort(key=lambda entry: entry[:2])
    return tuple(_told(problem, solution, name, best) for _, name, best in found[:_TOLD])


def _told(problem: Problem, solution: Solution, name: str, best: Known) -> Seat:
    (cost, plan, _), (_, unit, _) = best, scale(problem.requirements.objective)
    value, same = as_cost(problem, cost), plan.pipelines == solution.plan.pipelines
    ways = " and ".join(" -> ".join(one.nodes) for one in plan.pipelines)
    text = f"{plain(value)} instead of {plain(solution.value)} {unit}, "
    text += "with the same stages" if same else f"with layers on {ways}"
    return Seat(node=name, value=value, same_stages=same, text=text)
