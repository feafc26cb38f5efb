"""Deployment: how long something is kept, and how much of that time it is used."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from planner.core.spec import Spec
from planner.core.units import Fraction, Seconds

HOURS_PER_MONTH = 730.0
"""A year of 8,760 hours by twelve: what providers bill as a month."""


class Deployment(Spec):
    """Over what the costs are spread that do not grow with every hour or token."""

    period_s: Annotated[Seconds, Field(gt=0)] = Field(default=30 * 86400.0, alias="period")
    """How long it is kept: start-up and the first download are paid once in it."""
    in_use: Annotated[Fraction, Field(gt=0)] = 1.0
    """Share of the time in which requests come as the workload says; none come in the rest, while
    machines are still paid for."""

    @property
    def period_h(self) -> float:
        """The same in hours."""
        return self.period_s / 3600
