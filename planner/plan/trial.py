"""Trial: the last word on the best candidates is a judge's, such as a simulation's.

Formulas rank thousands of plans by what is expected; which of a few good ones serves a load of
unlike requests best, percentiles and queues included, is better tried. The judge is a function that
is passed in: this room knows no simulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.promise import as_cost, objective_value
from planner.plan.solution import Candidate

Judge = Callable[[Problem, Plan], Metrics]
"""What becomes of the workload under a plan."""

_TRIED = 4
"""Candidates that are tried at most."""
_WITHIN = 0.25
"""Share of the best value by which a candidate may be worse and still be tried."""


def tried(problem: Problem, candidates: Sequence[Candidate], judge: Judge) -> list[Candidate]:
    """The candidates, those that were tried first and by what the trial said.

    One that keeps every must-have in the trial comes before any that does not; then the objective
    decides. What was not tried follows in its old order.
    """
    lead = as_cost(problem, candidates[0].value)
    close = [
        one for one in candidates if as_cost(problem, one.value) <= lead + _WITHIN * abs(lead)
    ][:_TRIED]
    ranked: list[tuple[int, float, int, Candidate]] = []
    for place, one in enumerate(close):
        metrics = judge(problem, one.plan)
        value = objective_value(problem, metrics)
        missed = len(problem.requirements.must_have.missed(known(metrics, one)))
        cost = math.inf if value is None else as_cost(problem, value)
        after = one.model_copy(update={"trial": metrics})
        ranked.append((missed, cost, place, after))
    ranked.sort(key=lambda entry: entry[:3])
    rest = [one for one in candidates if one not in close]
    return [one for *_, one in ranked] + rest


def known(metrics: Metrics, candidate: Candidate) -> Metrics:
    """What a trial says, and the prediction where it says nothing.

    Availability in a trial is the luck of one run; the prediction's is the long run's.
    """
    said = metrics.model_dump(exclude_none=True)
    said["availability"] = candidate.prediction.metrics.availability
    return Metrics.model_validate(dict(candidate.prediction.metrics) | said)
