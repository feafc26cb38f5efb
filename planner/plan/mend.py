"""Mend: the one must-have whose change makes a problem feasible, changed as little as may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.requirements import BOUNDED, MustHave
from planner.plan.infeasible import with_objective
from planner.plan.predict import predict
from planner.plan.solution import Candidate
from planner.plan.standby import protected

_UNITS = {
    "usd_per_hour": "USD/h",
    "usd_per_million_output_tokens": "USD",
    "output_throughput": "tok/s",
    "request_goodput": "req/s",
}
"""As scenarios write them, so that a proposal can be copied; seconds are told apart."""
_DIGITS = 4
"""Digits of a bound that is proposed; rounded so that the plan it was read from keeps it."""

Search = Callable[[Problem], Sequence[Candidate]]


@dataclass(frozen=True, slots=True)
class Mend:
    """A must-have and the value at which there is a plan, or nodes to add."""

    name: str
    """As scenarios spell it; ``nodes`` where machines are missing."""
    before: object
    value: object
    text: str
    """What to do, in words."""
    applied: Problem
    """The problem with the change."""


def bounded(problem: Problem, name: str, value: float, unit: str = "") -> Mend:
    """A bound on a number, moved; times are told in milliseconds where the bound is below 1 s."""
    before = float(getattr(problem.requirements.must_have, _field(name)))
    verb = "raise" if value > before else "lower"
    size = 1e3 if unit == "s" and before < 1 else 1.0
    unit = f" {'ms' if size > 1 else unit}" if unit else ""
    text = f"{verb} must_have.{name} from {before * size:.12g}{unit} to {value * size:g}{unit}"
    return Mend(name, before, value, text, with_must(problem, _field(name), value))


def cheapest_mend(problem: Problem, search: Search) -> Mend | None:
    """The change of a single must-have that is smallest for its size; None where one is not enough.

    ``search`` gives the plans of a problem, none where there are none.
    """
    mends = [mend for name in numbers(problem) if (mend := _mend(problem, name, search))]
    tried = (mend for mend in sorted(mends, key=distance) if search(mend.applied))
    return next(tried, None)


def distance(mend: Mend) -> float:
    """How far a bound on a number moves, as a share of it."""
    assert isinstance(mend.value, (int, float))
    assert isinstance(mend.before, float)
    return abs(mend.value / mend.before - 1) if mend.before else math.inf


def _mend(problem: Problem, name: str, search: Search) -> Mend | None:
    must = problem.requirements.must_have
    metric, sign = _metric(name)
    values: list[float] = []
    for one in search(aimed_at(problem, name)):
        plan = protected(problem, one.plan) if name == "availability" else one.plan
        prediction = predict(problem, plan)
        others = broken(must, prediction).keys() - {metric}
        value = len(plan.nodes) if name == "max_nodes" else figure(prediction, metric)
        if value is not None and not others:
            values.append(float(value))
    return moved(problem, name, min(values) if sign > 0 else max(values)) if values else None


def figure(prediction: Prediction, metric: str) -> float | None:
    """A metric as must-haves bound it: a latency as that of the worst pipeline as well."""
    every = [prediction.metrics]
    if metric.endswith("_ms"):
        every += [one.metrics for one in prediction.pipelines]
    values = [getattr(one, metric) for one in every]
    return None if None in values else max(values)


def broken(must: MustHave, prediction: Prediction) -> dict[str, float | None]:
    """The bounds on metrics that a plan or a pipeline of it breaks, with what the plan has."""
    names = [miss.metric for miss in must.missed(prediction.metrics)]
    for one in prediction.pipelines:
        names += [miss.metric for miss in must.missed(one.metrics) if miss.metric.endswith("_ms")]
    return {name: figure(prediction, name) for name in names}


def moves(problem: Problem, plan: Plan) -> tuple[Mend, ...] | None:
    """The bounds on numbers that a plan breaks, moved one after another to what it needs.

    None where a plan breaks one with a number that is not known.
    """
    must, needed = problem.requirements.must_have, dict[str, float | None]()
    for metric, value in broken(must, predict(problem, plan)).items():
        needed[metric.removesuffix("_ms")] = value
    if must.max_nodes is not None and len(plan.nodes) > must.max_nodes:
        needed["max_nodes"] = len(plan.nodes)
    mends: list[Mend] = []
    for name, value in needed.items():
        if value is None:
            return None
        mends.append(moved(problem, name, value))
        problem = mends[-1].applied
    return tuple(mends)


def moved(problem: Problem, name: str, value: float) -> Mend:
    """A bound on a number at a value that a plan has, in the unit of its metric."""
    metric, sign = _metric(name)
    if name == "max_nodes":
        return bounded(problem, name, value)
    seconds = metric.endswith("_ms")
    value = outward(value / 1e3 if seconds else value, up=sign > 0)
    return bounded(problem, name, value, "s" if seconds else _UNITS.get(name, ""))


def serving(problem: Problem, name: str) -> Problem:
    """The problem with the objective that serves a bound on a number best."""
    return with_objective(problem, _metric(name)[0])


def aimed_at(problem: Problem, name: str) -> Problem:
    """The same without that bound."""
    return serving(with_must(problem, _field(name), None), name)


def numbers(problem: Problem) -> list[str]:
    """The must-haves about numbers that can be moved."""
    must = problem.requirements.must_have
    names = [name.removesuffix("_ms") for name in BOUNDED]
    return [name for name in (*names, "max_nodes") if getattr(must, _field(name)) is not None]


def _field(name: str) -> str:
    return name if name in MustHave.model_fields else f"{name}_s"


def _metric(name: str) -> tuple[str, int]:
    """The metric that a must-have bounds; 1 where less is better."""
    signs: dict[str, int] = dict(BOUNDED)
    if name == "max_nodes":
        return name, 1
    metric = name if name in signs else f"{name}_ms"
    return metric, signs[metric]


def with_must(problem: Problem, field: str, value: object) -> Problem:
    """The problem with one must-have changed; None drops it."""
    whole = int(value) if field == "max_nodes" and isinstance(value, float) else value
    must = MustHave.model_validate(dict(problem.requirements.must_have) | {field: whole})
    requirements = problem.requirements.model_copy(update={"must_have": must})
    return problem.model_copy(update={"requirements": requirements})


def outward(value: float, up: bool) -> float:
    """The next value with few digits that is not tighter."""
    if not value:
        return value
    power = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = value * 10.0**power
    near = round(scaled)
    if abs(near - scaled) > 1e-9 * abs(scaled):
        near = math.ceil(scaled) if up else math.floor(scaled)
    return round(near / 10.0**power, max(0, power))
