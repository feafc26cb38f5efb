"""Facts: all that a page tells, gathered from a plan, its simulation and its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from planner.core.metrics import Metrics, RequestRecord
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.plan.reasons import Reasons
from planner.report.simulate import Target
from planner.sim.result import Recovery


@dataclass(frozen=True, slots=True)
class Served:
    """Requests that were served, in a simulation or in a run."""

    name: str
    """``simulated`` or ``measured``."""
    metrics: Metrics
    """Means over the runs."""
    records: Sequence[RequestRecord]
    """Of the first run, as all that follows but the cost."""
    recoveries: Sequence[Recovery] = ()
    node_busy: Mapping[str, float] = field(default_factory=dict)
    """Share of the time by node."""
    link_busy: Mapping[str, float] = field(default_factory=dict)
    """Share of the time by ``src -> dst``."""
    cost_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    """By part; empty where it was not counted."""
    runs: int = 1
    """How often it was done, with other random numbers each time."""

    @property
    def shown(self) -> str:
        """What the records are of, where they are of one run among several."""
        return f"{self.name}, the first of {self.runs} runs" if self.runs > 1 else self.name


class Turn(Protocol):
    """A value of an input at which another choice becomes the better one."""

    @property
    def parameter(self) -> str:
        """What is uncertain."""

    @property
    def now(self) -> float:
        """Its value today."""

    @property
    def to(self) -> float:
        """The value that turns the choice."""

    @property
    def winner(self) -> str:
        """What is better then."""

    @property
    def text(self) -> str:
        """The same in a sentence."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One plan: what was predicted, simulated and measured of it, and what else there was."""

    command: str
    """What made the page."""
    problem: Problem
    plan: Plan
    prediction: Prediction
    gap: float | None = None
    """How far from the best possible at most, as a fraction; None where nothing is proven."""
    reasons: Reasons = field(default_factory=Reasons)
    verdict: Sequence[str] = ()
    """What to do, the alternatives weighed, a sentence each."""
    elsewhere: bool = False
    """Whether that is something else than this plan."""
    turns: Sequence[Turn] = ()
    """Values of inputs at which something else becomes the better choice."""
    turns_from: str = ""
    """The choice that these start from, where it is not the one that is advised."""
    rivals: Sequence[Target] = ()
    """Other ways to serve the same requests."""
    varied: Sequence[Target] = ()
    """Itself, and under other values of its inputs: no alternatives to it."""
    prices: Sequence[Mapping[str, str]] = ()
    """Prices from lists that the rivals rest on: what, value, as_of and source."""
    left_out: Sequence[tuple[str, str]] = ()
    """Alternatives that could not serve the requests, with the reason."""
    served: Sequence[Served] = ()
    """The simulation, then the run."""
    short_run: str = ""
    """Why the simulation does not say how often nodes are there; empty where it does."""
    warnings: Sequence[str] = ()

    @property
    def simulated(self) -> Served | None:
        """The simulation."""
        return next((one for one in self.served if one.name == "simulated"), None)

    @property
    def measured(self) -> Served | None:
        """The run."""
        return next((one for one in self.served if one.name == "measured"), None)

    @property
    def cost_usd_per_hour(self) -> Mapping[str, float]:
        """By part, as it was simulated or else predicted."""
        counted = self.simulated.cost_usd_per_hour if self.simulated else {}
        return counted or self.prediction.cost_usd_per_hour

    @property
    def best_known(self) -> Metrics:
        """What is nearest to the truth: measured, else simulated, else predicted."""
        known = self.measured or self.simulated
        return known.metrics if known else self.prediction.metrics
