"""Front: the plans of one cluster that trade price for speed, each found by a search of its own.

Epsilon constraints (Haimes, Lasdon, Wismer 1971): the cheapest plan at each level of quality, then
the cheapest that is faster than it, and so on until none is. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planner.advice.alternative import Alternative
from planner.advice.pareto import ParetoPoint, beats, pareto, standing
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.plan.quality import plan_quality
from planner.plan.solution import Candidate

Search = Callable[[Problem], Sequence[Candidate]]
"""The plans of a problem, best first; none where nothing meets the must-haves."""

_FASTER = 1e-3
"""Least gain in speed that is asked of the next plan, as a share."""


def front(problem: Problem, search: Search, most: int = 8) -> tuple[Candidate, ...]:
    """Plans of which none is beaten in price, p95 TPOT, availability and quality at once.

    ``most`` limits the searches at each level of quality; the levels are those of the
    quantizations at hand.
    """
    found: dict[tuple[float, ...], Candidate] = {}
    for quality in _levels(problem):
        bound_s: float | None = None
        for _ in range(most):
            plans = search(_cheapest(problem, quality, bound_s))
            if not plans:
                break
            best = plans[0]
            metrics = best.prediction.metrics
            if metrics.p95_tpot_ms is None:
                break
            found.setdefault(standing(metrics, plan_quality(problem, best.plan)), best)
            bound_s = metrics.p95_tpot_ms / 1e3 * (1 - _FASTER)
    return tuple(
        found[mine] for mine in sorted(found) if not any(beats(one, mine) for one in found)
    )


def front_points(
    problem: Problem, found: Sequence[Candidate], chosen: Plan
) -> tuple[ParetoPoint, ...]:
    """The plans of a front and the chosen one, with what each trades against it."""
    named: dict[str, Candidate] = {}
    for one in found:
        name = " | ".join(" -> ".join(pipeline.nodes) for pipeline in one.plan.pipelines)
        quants = dict.fromkeys(s.quant for p in one.plan.pipelines for s in p.stages)
        name = f"{name}, {', '.join(quants)}"
        if name in named:
            name += f", {one.plan.pipelines[0].max_num_seqs} seats"
        named[name] = one
    alternatives = [
        Alternative(
            name=name,
            kind="scenario",
            metrics=one.prediction.metrics,
            quality=plan_quality(problem, one.plan),
        )
        for name, one in named.items()
    ]
    mine = next((name for name, one in named.items() if one.plan == chosen), "")
    return pareto(alternatives, mine)


def _levels(problem: Problem) -> list[float | None]:
    """What is asked of the quality: as today, and every better level that some scheme keeps."""
    asked = problem.requirements.must_have.quality
    kept = {quant.quality_for(problem.model.family) for quant in problem.quants}
    better = sorted(level for level in kept if level is not None and level > (asked or 0.0))
    return [asked, *better[1 if asked is None else 0 :]]


def _cheapest(problem: Problem, quality: float | None, tpot_s: float | None) -> Problem:
    must = problem.requirements.must_have
    bounds = [bound for bound in (must.p95_tpot_s, tpot_s) if bound is not None]
    changes = {"quality": quality, "p95_tpot_s": min(bounds, default=None)}
    requirements = Requirements(
        objective="usd_per_million_output_tokens",
        must_have=MustHave.model_validate(dict(must) | changes),
        nice_to_have=problem.requirements.nice_to_have,
    )
    return problem.model_copy(update={"requirements": requirements})
