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
from planner.core.requirements import Miss
from planner.core.words import missed_text
from planner.plan.promise import as_cost, objective_value
from planner.plan.solution import Candidate

Judge = Callable[[Problem, Plan], Metrics]
"""What becomes of the workload under a plan."""

_TRIED = 4
"""Candidates that are tried, if one of them is as it must be."""
_WITHIN = 0.25
"""Share of the best value by which a candidate may be worse and still be tried, if so."""
_MOST = 12
"""Candidates that are tried at most, until one is as it must be."""


def tried(problem: Problem, candidates: Sequence[Candidate], judge: Judge) -> list[Candidate]:
    """The candidates, those that were tried first and by what the trial said.

    One that keeps every must-have in the trial comes before any that does not; then the objective
    decides. Where none of the best does, worse ones are tried until one does. What was not tried
    follows in its old order.
    """
    lead = as_cost(problem, candidates[0].value)
    ranked: list[tuple[int, float, int, Candidate]] = []
    for place, one in enumerate(candidates[:_MOST]):
        close = as_cost(problem, one.value) <= lead + _WITHIN * abs(lead)
        if any(not entry[0] for entry in ranked) and (place >= _TRIED or not close):
            break
        after = one.model_copy(update={"trial": judge(problem, one.plan)})
        value = objective_value(problem, after.trial) if after.trial else None
        cost = math.inf if value is None else as_cost(problem, value)
        ranked.append((len(missed(problem, after)), cost, place, after))
    rest = candidates[len(ranked) :]
    ranked.sort(key=lambda entry: entry[:3])
    return [*(one for *_, one in ranked), *rest]


def missed(problem: Problem, candidate: Candidate) -> list[Miss]:
    """The must-haves that a candidate broke in its trial; none where it was not tried."""
    if candidate.trial is None:
        return []
    return problem.requirements.must_have.missed(known(candidate.trial, candidate))


def verdict(problem: Problem, candidate: Candidate) -> tuple[str, ...]:
    """A warning where even the best that was tried does not do what the formulas promise."""
    told = "; ".join(map(missed_text, missed(problem, candidate)))
    return (f"no candidate that was tried kept every must-have; this one: {told}",) if told else ()


def known(metrics: Metrics, candidate: Candidate) -> Metrics:
    """What a trial says, and the prediction where it says nothing, unless nothing was completed.

    Availability in a trial is the luck of one run; the prediction's is the long run's.
    """
    expected = candidate.prediction.metrics
    said = metrics.model_dump(exclude_none=True) | {"availability": expected.availability}
    return Metrics.model_validate(said if metrics.completed == 0 else dict(expected) | said)
