"""What a first-time reader asks, answered in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.core.metrics import Metrics
from planner.core.words import figure, label, missed_text
from planner.plan.reasons import Reasons
from planner.report.churn import long_run_text
from planner.report.page.course import losses
from planner.report.page.facts import Facts
from planner.report.placement import KEPT, asked
from planner.report.simulate import Target

_COST, _SPEED = "usd_per_million_output_tokens", "mean_tpot_ms"
_SMALLEST = 0.005
"""Share of the cost below which a part of it is not worth a word."""
_MOST_RIVALS = 4
_BASIS = {"measured": "as measured", "simulated": "as simulated", "predicted": "as predicted"}


def headline(facts: Facts) -> str:
    """What is recommended, in one sentence."""
    plan = facts.plan
    quants = dict.fromkeys(stage.quant for one in plan.pipelines for stage in one.stages)
    ways = "; ".join(" → ".join(one.nodes) for one in plan.pipelines[:3])
    more = len(plan.pipelines) - 3
    if more > 0:
        ways += f" and {more} more"
    copies = "" if len(plan.pipelines) == 1 else f"{len(plan.pipelines)} copies of "
    return f"Run {copies}{facts.problem.model.id} in {', '.join(quants)} on {ways}"


def advised(facts: Facts) -> str:
    """What to do, in one sentence: this plan, or what is better than it."""
    if facts.elsewhere and facts.verdict:
        said = facts.verdict[0].partition(": ")[0]
        return said.partition(", which")[0].rstrip(".")
    return headline(facts)


def basis(facts: Facts) -> str:
    """Whether the figures were measured, simulated or predicted."""
    known = facts.measured or facts.simulated
    return _BASIS[known.name if known else "predicted"]


def answers(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    """Questions with their answers."""
    yield "What is recommended?", list(_recommended(facts))
    yield "What does it cost?", list(_cost(facts))
    limits = [_capital(limit.text) + "." for limit in facts.reasons.limits]
    yield "What limits it?", limits or _limited(facts)
    yield "What if a node leaves?", list(_leaves(facts))
    yield "When is something else better?", list(_instead(facts))


def _recommended(facts: Facts) -> Iterator[str]:
    if facts.elsewhere and facts.verdict:
        yield facts.verdict[0]
        yield f"On these nodes: {_lower(headline(facts))}."
    else:
        yield f"{headline(facts)}."
    metrics, must = facts.best_known, facts.problem.requirements.must_have
    missed = must.missed(metrics)
    if missed:
        yield "It misses what was asked: " + "; ".join(map(missed_text, missed)) + "."
    elif must != type(must)():
        yield f"It meets every must-have, {basis(facts)}."
    here = facts.prediction.metrics.availability
    if text := long_run_text(facts.problem, facts.plan, here):
        yield text
    if facts.short_run:
        yield f"What was simulated is short: {facts.short_run}."
    if facts.gap is not None:
        yield (
            "No better plan exists in this model of the problem; that is proven."
            if facts.gap == 0
            else f"At most {facts.gap:.1%} could be gained by any other plan; that is proven."
        )


def _cost(facts: Facts) -> Iterator[str]:
    metrics = facts.best_known
    hourly, per_million = metrics.usd_per_hour, getattr(metrics, _COST)
    if not hourly:
        yield "Nothing that the scenario puts a price on."
        return
    expected = facts.prediction.metrics.usd_per_hour
    if facts.short_run and expected:
        yield f"{figure('usd_per_hour', hourly)} in so short a run."
        hourly, told = expected, " in the long run, predicted"
    else:
        told = ""
    yield (
        f"{figure('usd_per_hour', hourly)}{told}, about {hourly * 24 * 30:,.0f} USD for 30 days "
        "without a pause."
    )
    if per_million:
        yield f"{per_million:.4g} USD per million output tokens at this load, {basis(facts)}."
    hidden = {k: v for k, v in facts.reasons.hidden_costs.items() if v > _SMALLEST * hourly}
    if hidden:
        told = ", ".join(f"{k.replace('_', ' ')} {v:.3g} USD/h" for k, v in hidden.items())
        yield f"Easily overlooked, as predicted: {told}."


def _limited(facts: Facts) -> list[str]:
    found = dict.fromkeys(one.limited_by for one in facts.prediction.pipelines if one.limited_by)
    return [f"Mostly {cause}." for cause in found] or ["Nothing stands out."]


def better_in_all(facts: Facts) -> Target | None:
    """The cheapest alternative that is cheaper, no slower and misses nothing; None without one."""
    mine, must = facts.best_known, facts.problem.requirements.must_have
    found = [
        rival
        for rival in facts.rivals
        if not rival.missed
        and not must.missed(rival.metrics)
        and (_times(getattr(mine, _COST), getattr(rival.metrics, _COST)) or 0) > 1
        and (_times(mine.mean_tpot_ms, rival.metrics.mean_tpot_ms) or 0) >= 1
    ]
    return min(found, key=lambda one: getattr(one.metrics, _COST), default=None)


def _leaves(facts: Facts) -> Iterator[str]:
    standbys: dict[str, list[str]] = {}
    for one in facts.plan.standbys:
        place = facts.plan.pipelines[one.pipeline].nodes[one.stage]
        standbys.setdefault(one.node, []).append(f"{place} ({one.state})")
    for node, backed in standbys.items():
        yield f"{node} stands by for {', '.join(backed)}."
    cluster = facts.problem.cluster
    unsafe = [n for n in facts.plan.nodes if cluster.node(n).churn]
    if unsafe and not standbys:
        yield (
            f"{', '.join(unsafe[:4])}{' and others' if len(unsafe) > 4 else ''} may leave at any "
            "time and nothing stands by: requests wait until the node is back or a new plan runs."
        )
    if facts.reasons.fallback:
        yield _fallback(facts.reasons)
    for served in facts.served:
        if served.recoveries:
            failed = sum(record.status == "failed" for record in served.records)
            slowest_s = max(one.recovered_s - one.lost_s for one in served.recoveries)
            yield (
                f"{served.shown.capitalize()}: {losses(len(served.recoveries))} recovered, the "
                f"slowest in {slowest_s:.3g} s; {failed} requests failed."
            )
    if not unsafe and not standbys and not facts.reasons.fallback:
        yield "The scenario says of no node that it might."


def _fallback(why: Reasons) -> str:
    told, then = _capital(why.fallback), why.fallback_metrics
    if then is None:
        return f"{told}."
    figures = [f"{figure(_SPEED, then.mean_tpot_ms)} per token"] if then.mean_tpot_ms else []
    if then.usd_per_hour:
        figures.append(figure("usd_per_hour", then.usd_per_hour))
    return f"{told}, at {' and '.join(figures)}." if figures else f"{told}."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    """A clause as a sentence begins."""
    return text[:1].upper() + text[1:]


def _instead(facts: Facts) -> Iterator[str]:
    mine = facts.best_known
    dear = float("inf")
    ranked = sorted(facts.rivals, key=lambda one: getattr(one.metrics, _COST) or dear)
    for rival in ranked[:_MOST_RIVALS]:
        yield _capital(against(mine, rival))
    for name, why in facts.left_out:
        yield f"{name} cannot serve this: {why}."
    if facts.turns_from:
        yield f"By the formulas, without a simulation, {facts.turns_from} is the choice today."
    for turn in facts.turns[:3]:
        yield f"{_capital(turn.text)}."
    if facts.varied:
        yield "How it does under the other values stands below; nothing else was compared."
    elif not facts.rivals and not facts.left_out:
        yield (
            "The scenario names nothing to compare with; clouds and APIs go under its key "
            "alternatives."
        )


def against(mine: Metrics, rival: Target) -> str:
    """One alternative beside the plan: cheaper, faster, both or neither."""
    cost = _times(getattr(mine, _COST), getattr(rival.metrics, _COST))
    speed = _times(mine.mean_tpot_ms, rival.metrics.mean_tpot_ms)
    told = []
    if cost is not None:
        told.append(_more(cost, "cheaper", "dearer", figure(_COST, getattr(rival.metrics, _COST))))
    if speed is not None:
        per_token = f"{figure(_SPEED, rival.metrics.mean_tpot_ms)} per token"
        told.append(_more(speed, "faster", "slower", per_token))
    if not told:
        return f"{rival.name}: neither its cost nor its speed is known."
    missed = [label(miss.metric) for miss in rival.missed]
    if missed:
        verdict = f"it misses {', '.join(missed)}"
    elif cost is not None and cost > 1 and speed is None:
        verdict = "take it where the price decides and its speed, which is not known, suffices"
    elif (cost or 0) >= 1 and (speed or 0) >= 1:
        verdict = "take it, unless it has to be these nodes"
    elif (cost or 0) > 1:
        verdict = "take it where the price matters more than the speed"
    elif (speed or 0) > 1:
        verdict = "take it where the speed is worth the price"
    else:
        verdict = "no reason to take it"
    return f"{rival.name} is {' and '.join(told)}: {verdict}."


def _times(mine: float | None, other: float | None) -> float | None:
    """How many times less the other takes."""
    return mine / other if mine and other else None


def _more(times: float, better: str, worse: str, value: str) -> str:
    if 0.98 < times < 1.02:
        return f"as {'cheap' if better == 'cheaper' else 'fast'} ({value})"
    factor, word = (times, better) if times > 1 else (1 / times, worse)
    return f"{factor:.2g} times {word} ({value})"


def must_haves(facts: Facts) -> Sequence[tuple[str, str, str, str]]:
    """Name, bound, value and ``met`` or ``missed`` of every bound on a figure."""
    must, metrics = facts.problem.requirements.must_have, facts.best_known
    missed = {miss.metric for miss in must.missed(metrics)}
    rows = []
    for metric, name, bound in asked(must):
        if metric == "max_nodes":
            told = str(len(facts.plan.nodes))
        elif metric:
            value = getattr(facts.prediction if metric == "quality" else metrics, metric, None)
            told = figure(metric, value)
        else:
            told = KEPT
        rows.append((name, bound, told, "missed" if metric in missed else "met"))
    return rows
