"""Overload: requests come faster than any plan serves them, whatever the must-haves say."""

from __future__ import annotations

from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import Requirements
from planner.core.units import show
from planner.core.workload import Closed
from planner.plan.infeasible import NoPlanError, near_miss
from planner.plan.mend import Mend, Search, outward
from planner.plan.predict import pipeline_shares, predict
from planner.plan.together import together

_EASY = 0.9
"""Share of the most that can be served at which waits are still bearable."""
_FLOOD = 1e9
"""Requests per second that no plan serves."""


def overload(problem: Problem, free: Problem, search: Search) -> NoPlanError | None:
    """Why no plan keeps up with open arrivals; None where fewer requests would not help either.

    ``free`` is the problem without bounds on numbers. What a plan serves at most is what a crowd
    gets of it that never runs out; for that ``search`` finds the best ones.
    """
    rate = problem.workload.requests_per_s
    if rate is None:
        return None
    found = [(_most(free, one.plan), one.plan) for one in search(_crowded(free))]
    if not found:
        return None
    most, plan = max(found, key=lambda pair: pair[0])
    eased = _at_rate(problem, outward(min(rate, _EASY * most), up=False))
    easy = eased.workload.load
    text = f"lower workload.arrivals.rate to {show(easy, 'requests_per_s')}"
    mends: tuple[Mend, ...] = (Mend("workload.arrivals.rate", rate, easy, text, eased),)
    hint = "ask for shorter prompts and answers, or add nodes"
    if not search(eased):
        more = together(eased, search)
        mends = (*mends, *more[0]) if more else ()
    if mends:
        hint = f"{' and '.join(mend.text for mend in mends)}, or {hint}"
    ways = " and ".join(" -> ".join(pipeline.nodes) for pipeline in plan.pipelines)
    message = f"no plan keeps up with {show(rate, 'requests_per_s')}: the most that was found is "
    message += f"{show(most, 'requests_per_s')}, on {ways}"
    nearest = near_miss(free, plan, predict(free, plan).metrics.request_throughput or 0.0)
    return NoPlanError("load", message, hint, nearest, mends)


def _crowded(problem: Problem) -> Problem:
    """As many users as could ever have a seat, and as many answers as possible for them."""
    most = problem.serving.max_num_seqs or problem.engine.max_num_seqs
    users = most * len(problem.cluster.workers)
    arrivals = Closed(kind="closed", concurrency=users)
    workload = problem.workload.model_copy(update={"arrivals": arrivals})
    values = {name: getattr(problem, name) for name in Problem.model_fields}
    wanted = Requirements(objective="throughput", must_have=problem.requirements.must_have)
    return Problem.model_validate(values | {"workload": workload, "requirements": wanted})


def _at_rate(problem: Problem, requests_per_s: float) -> Problem:
    values = {name: getattr(problem, name) for name in Problem.model_fields}
    workload = problem.workload.under(requests_per_s)
    return Problem.model_validate(values | {"workload": workload})


def _most(problem: Problem, plan: Plan) -> float:
    """Requests per second at which the first pipeline of a plan has no time left."""
    flooded = predict(_at_rate(problem, _FLOOD), plan)
    return min(
        (one.metrics.request_throughput or 0.0) / share
        for one, share in zip(flooded.pipelines, pipeline_shares(plan), strict=True)
    )
