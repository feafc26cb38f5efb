"""Flips: at which value of an uncertain input another option becomes the better one.

Each input is moved step by step in both directions until another option wins, and the step is then
bisected. On the way an option chooses among the plans it has; the value found is checked by
planning anew just below and just above it, and searched for again by planning anew where that says
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from planner.advice.alternative import Alternative, Option, predicted
from planner.advice.lever import Lever
from planner.advice.ranking import ranked
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.spec import Spec

Replan = Callable[[Problem], Sequence[Plan]]
"""The plans of a problem, best first; none where nothing meets the must-haves."""

PRECISION = 0.01
"""Ratio between the values on both sides of a flip, less one."""
_STEP = 2.0
_NEAR = 2.0
"""A flip within this factor of today's value is one that ordinary life brings."""


class Flip(Spec):
    """A value of an input beyond which another option is the better one."""

    parameter: str
    now: float
    to: float
    """First value, in the unit of ``now``, at which the other one wins."""
    inside: float
    """Last value looked at where today's winner still wins."""
    before: str
    """Today's winner."""
    winner: str
    """The better one from ``to`` on."""
    distance: float
    """How many times today's value has to grow or shrink."""
    replanned: bool
    """Whether planning anew on both sides says the same."""
    text: str

    @property
    def near(self) -> bool:
        """Whether ordinary life may bring it."""
        return self.distance <= _NEAR


@dataclass(slots=True)
class _Contest:
    """Who wins at a value of a lever."""

    options: Sequence[Option]
    lever: Lever
    replan: Replan | None = None
    known: dict[float, str] = field(default_factory=dict)
    still: dict[str, Alternative] = field(default_factory=dict)
    """What comes of options that no lever moved, by name; shared by all levers."""

    def winner(self, value: float) -> str:
        """Name of the best option; plans are made anew if there is something to plan with."""
        if value not in self.known:
            requirements = self.options[0].problem.requirements
            found = [self._at(option, value) for option in self.options]
            self.known[value] = ranked(requirements, found)[0].name
        return self.known[value]

    def _at(self, option: Option, value: float) -> Alternative:
        moved = option if value == self.lever.now else self.lever.moved(option, value)
        if moved is option:
            if option.name not in self.still:
                self.still[option.name] = predicted(option)
            return self.still[option.name]
        if self.replan is not None and option.price is None:
            plans = tuple(self.replan(moved.problem))
            moved = replace(moved, plans=plans or moved.plans)
        return predicted(moved)


def best(options: Sequence[Option]) -> str:
    """Name of the option that ranks first by what the cost model says."""
    requirements = options[0].problem.requirements
    return ranked(requirements, [predicted(option) for option in options])[0].name


def flips(
    options: Sequence[Option], levers: Sequence[Lever], replan: Replan | None = None
) -> tuple[Flip, ...]:
    """The nearest flip of each lever in each direction, the nearest of all first."""
    if len(options) < 2:
        return ()
    found, still = [], dict[str, Alternative]()
    for lever in levers:
        quick = _Contest(options, lever, still=still)
        anew = _Contest(options, lever, replan, still=still)
        for far in (lever.low, lever.high):
            flip = _flip(quick, anew, far)
            if flip is not None:
                found.append(flip)
    return tuple(sorted(found, key=lambda flip: (flip.distance, flip.parameter)))


def _flip(quick: _Contest, anew: _Contest, far: float) -> Flip | None:
    """The flip towards ``far``: found with the plans at hand, confirmed with plans made anew."""
    lever = quick.lever
    edge = _edge(quick.winner, lever, far)
    if anew.replan is None:
        return _told(lever, quick.winner, edge, False)
    if edge is None:
        if anew.winner(far) == anew.winner(lever.now):
            return None
    elif anew.winner(edge[0]) == quick.winner(lever.now) == anew.winner(lever.now) and (
        anew.winner(edge[1]) == quick.winner(edge[1])
    ):
        return _told(lever, anew.winner, edge, True)
    return _told(lever, anew.winner, _edge(anew.winner, lever, far), True)


def _edge(winner: Callable[[float], str], lever: Lever, far: float) -> tuple[float, float] | None:
    """The values on both sides of the nearest change towards ``far``; None where there is none."""
    if lever.now == far or lever.now <= 0:
        return None
    today, inside = winner(lever.now), lever.now
    up = far > lever.now
    while inside != far:
        outside = min(far, inside * _STEP) if up else max(far, inside / _STEP)
        outside = float(round(outside)) if lever.whole else outside
        if outside == inside:
            return None
        if winner(outside) != today:
            return _bisected(winner, lever, inside, outside)
        inside = outside
    return None


def _bisected(
    winner: Callable[[float], str], lever: Lever, inside: float, outside: float
) -> tuple[float, float]:
    today = winner(inside)
    while abs(math.log(outside / inside)) > math.log1p(PRECISION):
        middle = math.sqrt(inside * outside)
        if lever.whole:
            middle = float(round(middle))
            if middle in (inside, outside):
                middle = inside + (1.0 if outside > inside else -1.0)
                if middle == outside:
                    break
        if winner(middle) == today:
            inside = middle
        else:
            outside = middle
    return inside, outside


def _told(
    lever: Lever,
    winner: Callable[[float], str],
    edge: tuple[float, float] | None,
    replanned: bool,
) -> Flip | None:
    if edge is None:
        return None
    inside, outside = edge
    today, other = winner(lever.now), winner(outside)
    side = "from" if outside > lever.now else "up to" if lever.whole else "below"
    value = outside if outside > lever.now or lever.whole else inside
    text = f"{other} is the better choice {side} {lever.say(value)}"
    if "today" not in lever.said:
        text += f", now {lever.figure(lever.now)}"
    return Flip(
        parameter=lever.name,
        now=lever.now,
        to=outside,
        inside=inside,
        before=today,
        winner=other,
        distance=max(outside / lever.now, lever.now / outside),
        replanned=replanned,
        text=text,
    )
