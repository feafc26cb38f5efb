"""Drafts: what another number of drafted tokens would bring."""

from __future__ import annotations

from planner.core.choice import decided, drafts_open
from planner.core.problem import Problem
from planner.plan.breakdown import round_s
from planner.plan.elsewhere import best_with
from planner.plan.promise import as_cost
from planner.plan.solution import Drafts, Solution


def numbers_of_drafts(problem: Problem, solution: Solution) -> tuple[Drafts, ...]:
    """Every number of drafts with the best plan that is known for it, the fewest first.

    None where the number was not the plan's to choose; one with which no known plan keeps the
    must-haves is left out.
    """
    if not drafts_open(problem):
        return ()
    told = []
    for count in range(problem.serving.draft_tokens + 1):
        same = solution.plan.model_copy(update={"draft_tokens": count})
        best = best_with(problem, solution, same, "draft_tokens")
        if best is None:
            continue
        cost, plan, prediction = best
        settled = decided(problem, plan)
        told.append(
            Drafts(
                draft_tokens=count,
                chosen=count == solution.plan.draft_tokens,
                tokens_per_round=settled.serving.tokens_per_round,
                round_s=max(round_s(settled, one) for one in prediction.pipelines),
                batch=max(one.batch for one in prediction.pipelines),
                value=as_cost(problem, cost),
                same_stages=plan.pipelines == solution.plan.pipelines,
            )
        )
    return tuple(told)
