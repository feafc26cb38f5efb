"""Reasons: why a plan was chosen, short enough to travel with it."""

from __future__ import annotations

from planner.core.metrics import Metrics
from planner.core.spec import Spec
from planner.plan.solution import CandidateFlip, Limit, Solution


class Considered(Spec):
    """A plan that was weighed, by its figures alone."""

    name: str
    metrics: Metrics
    chosen: bool = False
    trade: str = ""


class Reasons(Spec):
    """What the search knew beside the plan."""

    considered: tuple[Considered, ...] = ()
    limits: tuple[Limit, ...] = ()
    flips: tuple[CandidateFlip, ...] = ()
    hidden_costs: dict[str, float] = {}  # noqa: RUF012 (pydantic copies defaults)
    """USD per hour by name."""
    fallback: str = ""
    """What to do when the most exposed node leaves, in words."""
    fallback_metrics: Metrics | None = None
    """What that is predicted to be like."""


def reasons(solution: Solution) -> Reasons:
    """The reasons of a solution."""
    return Reasons(
        considered=tuple(
            Considered(
                name=one.name,
                metrics=one.prediction.metrics,
                chosen=one.chosen,
                trade=one.trade,
            )
            for one in solution.candidates
        ),
        limits=solution.limits,
        flips=solution.flips,
        hidden_costs=dict(solution.hidden_costs),
        fallback=solution.fallback_text,
        fallback_metrics=solution.fallback.prediction.metrics if solution.fallback else None,
    )
