"""SimResult: what came of a simulated run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.core.cost import CostLine
from planner.core.cost.verification import VerificationCost
from planner.core.metrics import Metrics, RequestRecord

EVENTS = (
    "failures",
    "failovers",
    "retries",
    "preemptions",
    "notices",
    "handovers",
    "duds",
)
"""What is counted in a run."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One job at one stage or on one link (s)."""

    place: str
    """Node, or ``src -> dst``."""
    job: int
    came_s: float
    began_s: float
    ended_s: float
    phase: str = ""
    requests: tuple[int, ...] = ()
    """Ids of the requests that the job serves."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """A lost stage that works again (s)."""

    pipeline: int
    stage: int
    node: str
    """The node that holds it now."""
    lost_s: float
    detected_s: float
    recovered_s: float
    replayed_s: float = 0.0
    """How long the node computed the stored inputs again."""


@dataclass(frozen=True, slots=True)
class SimResult:
    """Records of a run and what follows from them."""

    records: Sequence[RequestRecord]
    """In order of arrival."""
    metrics: Metrics
    cost: dict[str, float]
    """USD per hour by part."""
    events: dict[str, int]
    """How often each of ``EVENTS`` happened."""
    simulated_s: float
    event_count: int
    stage_busy: dict[str, float]
    """Share of the time each node computed."""
    link_busy: dict[str, float]
    """Share of the time each link was sending."""
    most_seated: tuple[int, ...]
    """Most sequences that were in each pipeline at once."""
    draft_busy: dict[str, float] = field(default_factory=dict)
    """Share of the time the coordinator drafted; empty where it does not."""
    broken: tuple[str, ...] = ()
    """Invariants that the run itself saw broken, in words; none in a correct simulator."""
    presence_s: float = 0.0
    """Requests in the system, integrated over time."""
    spent_s: dict[str, float] = field(default_factory=dict)
    """Where the time of completed requests went, in the mean; the parts sum up to their E2EL."""
    prefix_tokens: tuple[int, int] = (0, 0)
    """Tokens that were looked up in prefix caches, and those of them that were found."""
    recoveries: tuple[Recovery, ...] = ()
    """Lost stages that came to work again, in that order."""
    away_s: dict[str, float] = field(default_factory=dict)
    """How long each node of the plan was away."""
    starting_s: dict[str, float] = field(default_factory=dict)
    """How long each node was paid for before it could be used."""
    cost_lines: tuple[CostLine, ...] = ()
    """What it cost, by cause and place."""
    verification: VerificationCost | None = None
    """What its audits came to, in the mean over who is drawn for one."""
    visits: tuple[Visit, ...] = ()
    """Every job at every place, if asked for, in order of beginning."""
