"""Ties: which of equally good plans is chosen, and which others are nearly as good.

The objective ranks plans and often leaves several: seats cost nothing, nor do wider weights where
nobody waits for them. Of those it does not tell apart the cheapest are left, and any that costs
hardly more; of these the one is chosen that keeps most of the quality, then the one that answers
soonest.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.core.problem import Problem
from planner.plan.promise import as_cost
from planner.plan.solution import Candidate, Tie

_SAME = 1e-9
"""Share of the objective within which plans are equal: what rounding leaves."""
_NEAR = 0.01
"""Share of the objective within which a plan is worth a word, and of a price that makes none."""
_TOLD = 3


def untied(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that are sorted by the objective, the best of the equal first ones leading."""
    equal = [one for one in candidates if _behind(problem, candidates[0], one) <= _SAME]
    known = all(one.prediction.quality is not None for one in equal)
    least = min(one.prediction.metrics.usd_per_hour or 0.0 for one in equal) * (1 + _NEAR)

    def rank(one: Candidate) -> tuple[float, float, float, int]:
        metrics = one.prediction.metrics
        kept = one.prediction.quality if known else _least_bits(problem, one)
        usd, last_ms = metrics.usd_per_hour or 0.0, metrics.mean_e2el_ms or 0.0
        return max(usd, least), -(kept or 0.0), last_ms, len(one.plan.nodes)

    return [*sorted(equal, key=rank), *candidates[len(equal) :]]


def ties(problem: Problem, candidates: Sequence[Candidate]) -> tuple[Tie, ...]:
    """What the objective hardly tells from the chosen plan, the first candidate.

    Nothing after a trial, which ranks by other figures.
    """
    first, told = candidates[0], list[Tie]()
    if first.trial is not None:
        return ()
    for one in candidates[1:]:
        apart = _behind(problem, first, one)
        if apart <= _NEAR and one.trade != "nothing":
            said = "equal" if apart <= _SAME else f"{max(apart, 1e-4):.2%} worse"
            text = f"{one.name}: {said}; {one.trade}"
            told.append(Tie(name=one.name, value=one.value, worse=max(0.0, apart), text=text))
    return tuple(told[:_TOLD])


def _behind(problem: Problem, best: Candidate, one: Candidate) -> float:
    """How much worse it is than the best, as a share of the objective."""
    lead = as_cost(problem, best.value)
    behind = as_cost(problem, one.value) - lead
    return behind / abs(lead) if lead else float(behind > 0)


def _least_bits(problem: Problem, one: Candidate) -> float:
    """Bits of its narrowest weights."""
    used = {stage.quant for pipeline in one.plan.pipelines for stage in pipeline.stages}
    return min(problem.quant(quant).weight_bits for quant in used)
