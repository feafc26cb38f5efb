"""Level: pipelines by how long their longest stage takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.plan.chain import Lengths
from planner.plan.floor import Floor


@dataclass(eq=False)
class Level:
    """Pipelines whose longest stage lies in an interval."""

    given: Lengths
    low: tuple[float, ...]
    """Least criteria."""
    high_s: float
    """Longest stage at most."""
    shortest: float
    """Length of the shortest chain."""
    least: dict[float, Floor] = field(default_factory=dict)
    """Least cost by least length."""
