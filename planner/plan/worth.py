"""Worth: what each node that stands by costs and saves, and the next one that does not."""

from __future__ import annotations

from collections.abc import Iterator

from planner.core.choice import decided
from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.rearranged import with_one_more
from planner.plan.solution import Worth
from planner.plan.standby import Scales, pays

_HOUR_S = 3600.0


def worths(problem: Problem, plan: Plan) -> Iterator[Worth]:
    """Every standby node against the plan without it, and the best one more against the plan."""
    problem = decided(problem, plan)
    scales = Scales(problem, plan.model_copy(update={"standbys": ()}))
    here = scales.metrics(plan)
    for name in dict.fromkeys(one.node for one in plan.standbys):
        rest = tuple(one for one in plan.standbys if one.node != name)
        without = scales.metrics(plan.model_copy(update={"standbys": rest}))
        backed = [one for one in plan.standbys if one.node == name]
        usd, tokens = _differences(problem, without, here)
        text = (
            f"{backed[0].state} standby {name} {_said(usd, tokens)}; without it availability "
            f"would be {without.availability or 0.0:.2%}"
        )
        yield _worth(name, usd, tokens, without, text, chosen=True)
    most = max(range(len(plan.pipelines)), key=lambda at: scales.outages(plan)[at].away_s)
    more = list(with_one_more(problem, plan, most)) if scales.outages(plan)[most].losses else []
    if not more:
        return
    best = min(more, key=scales.lost)
    after, name = scales.metrics(best), _joined(plan, best)
    usd, tokens = _differences(problem, here, after)
    text = (
        f"{name} does not stand by: it would {_said(usd, tokens, s='')}, and raise availability "
        f"from {here.availability or 0.0:.2%} to {after.availability or 0.0:.2%}"
    )
    if not pays(problem) and problem.requirements.must_have.availability is None:
        text += "; the objective does not count that, must_have.availability asks for it"
    yield _worth(name, usd, tokens, after, text, chosen=False)


def _joined(plan: Plan, more: Plan) -> str:
    """The node that stands by in the second plan alone."""
    before = {one.node for one in plan.standbys}
    return next(one.node for one in more.standbys if one.node not in before)


def _differences(problem: Problem, without: Metrics, with_: Metrics) -> tuple[float, float]:
    """What the second plan costs more an hour, and how many more tokens of good requests it has."""
    requests_per_s = (with_.request_goodput or 0.0) - (without.request_goodput or 0.0)
    usd = (with_.usd_per_hour or 0.0) - (without.usd_per_hour or 0.0)
    return usd, requests_per_s * problem.workload.output.mean_tokens * _HOUR_S


def _said(usd: float, tokens: float, s: str = "s") -> str:
    said = f"cost{s} {usd:.3g} USD/h and save{s} {tokens:,.0f} tokens/h"
    return f"{said} ({usd / tokens * 1e6:.3g} USD/Mtok)" if usd > 0 and tokens >= 1 else said


def _worth(
    name: str, usd: float, tokens: float, otherwise: Metrics, text: str, *, chosen: bool
) -> Worth:
    return Worth(
        node=name,
        chosen=chosen,
        usd_per_hour=usd,
        tokens_per_hour=tokens,
        availability_otherwise=otherwise.availability or 0.0,
        goodput_otherwise=otherwise.request_goodput or 0.0,
        text=text,
    )
