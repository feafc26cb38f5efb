"""Mend: the one must-have whose change makes a problem feasible, changed as little as may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.core.problem import Problem
from planner.core.requirements import BOUNDED, MustHave
from planner.plan.infeasible import with_objective
from planner.plan.predict import predict
from planner.plan.solution import Candidate
from planner.plan.standby import protected

_DIGITS = 4
"""Digits of a bound that is proposed; rounded so that the plan it was read from keeps it."""

Search = Callable[[Problem], list[Candidate]]


@dataclass(frozen=True, slots=True)
class Mend:
    """A must-have and the value at which there is a plan."""

    name: str
    """As scenarios spell it."""
    before: float
    value: float
    unit: str

    @property
    def text(self) -> str:
        """What to do, in words."""
        verb = "raise" if self.value > self.before else "lower"
        unit = f" {self.unit}" if self.unit else ""
        return f"{verb} must_have.{self.name} from {self.before:g}{unit} to {self.value:g}{unit}"

    def applied(self, problem: Problem) -> Problem:
        """The problem with the must-have changed."""
        return _with(problem, self.name, self.value)


def cheapest_mend(problem: Problem, search: Search) -> Mend | None:
    """The change of a single must-have that is smallest for its size; None where one is not enough.

    ``search`` gives the plans of a problem, none where there are none.
    """
    mends = [mend for name in _asked(problem) if (mend := _mend(problem, name, search)) is not None]
    return min(mends, key=lambda mend: abs(mend.value / mend.before - 1), default=None)


def _mend(problem: Problem, name: str, search: Search) -> Mend | None:
    must = problem.requirements.must_have
    metric, sign = _metric(name)
    before = float(getattr(must, _field(name)))
    free = with_objective(_with(problem, name, None), metric)
    values: list[float] = []
    for one in search(free):
        plan = protected(problem, one.plan) if name == "availability" else one.plan
        metrics = predict(problem, plan).metrics
        value = len(plan.nodes) if name == "max_nodes" else getattr(metrics, metric)
        others = [miss for miss in must.missed(metrics) if miss.metric != metric]
        if value is not None and not others:
            values.append(float(value))
    if not values or not before:
        return None
    value = min(values) if sign > 0 else max(values)
    if name == "max_nodes":
        return Mend(name, before, value, "")
    seconds = metric.endswith("_ms")
    value = _outward(value / 1e3 if seconds else value, up=sign > 0)
    return Mend(name, before, value, "s" if seconds else "")


def _asked(problem: Problem) -> list[str]:
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


def _with(problem: Problem, name: str, value: float | None) -> Problem:
    whole = int(value) if name == "max_nodes" and value is not None else value
    must = MustHave.model_validate(dict(problem.requirements.must_have) | {_field(name): whole})
    requirements = problem.requirements.model_copy(update={"must_have": must})
    return problem.model_copy(update={"requirements": requirements})


def _outward(value: float, up: bool) -> float:
    """The next value with few digits that is not tighter."""
    if not value:
        return value
    power = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    scaled = value * 10.0**power
    near = round(scaled)
    if abs(near - scaled) > 1e-9 * abs(scaled):
        near = math.ceil(scaled) if up else math.floor(scaled)
    return round(near / 10.0**power, max(0, power))
