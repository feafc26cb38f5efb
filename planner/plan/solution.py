"""Solution: the chosen plan, how good it is, and what else was considered."""

from __future__ import annotations

from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.spec import Spec


class Candidate(Spec):
    """A plan that was found on the way, and what it trades."""

    name: str
    plan: Plan
    prediction: Prediction
    value: float
    """Objective, in its own unit."""
    chosen: bool = False
    trade: str = ""


class Limit(Spec):
    """Something that keeps the plan from being better."""

    what: str
    where: str
    share: float
    """Share of a token's time, or of a capacity, that it takes."""
    text: str


class Flip(Spec):
    """A value of an uncertain input at which another candidate becomes the better one."""

    parameter: str
    now: float
    to: float
    winner: str
    text: str


class Solution(Spec):
    """What ``solve`` answers; ``gap`` 0 means proven optimal."""

    plan: Plan
    prediction: Prediction
    value: float
    bound: float
    gap: float
    solver: str
    candidates: tuple[Candidate, ...] = ()
    limits: tuple[Limit, ...] = ()
    hidden_costs: dict[str, float] = {}  # noqa: RUF012 (pydantic copies defaults)
    flips: tuple[Flip, ...] = ()
    fallback: Candidate | None = None
    fallback_text: str = ""
    warnings: tuple[str, ...] = ()
