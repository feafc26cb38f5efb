"""Solution: the chosen plan, how good it is, and what else was considered."""

from __future__ import annotations

from typing import Literal

from planner.core.metrics import Metrics
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
    equal_value: float | None = None
    """The same if its pipelines had equal weights; None where they have."""
    chosen: bool = False
    trade: str = ""
    trial: Metrics | None = None
    """What a judge said of the plan under the workload, where one was asked."""


class Limit(Spec):
    """Something that keeps the plan from being better."""

    what: str
    where: str
    share: float
    """Share of a token's time, or of a capacity, that it takes."""
    text: str


class CandidateFlip(Spec):
    """A value of an uncertain input at which another of the candidates found becomes the best."""

    parameter: str
    now: float
    to: float
    winner: str
    text: str


class Seat(Spec):
    """Another node at which the coordinator may sit, and the best plan that was found for it."""

    node: str
    value: float
    """Objective, in its own unit."""
    same_stages: bool
    """Whether that plan has the stages of the chosen one."""
    text: str


class Drafts(Spec):
    """A number of drafted tokens, and the best plan that is known for it."""

    draft_tokens: int
    chosen: bool
    tokens_per_round: float
    """Expected tokens that a traversal brings each sequence."""
    round_s: float
    """Drafting and checking in the slowest pipeline, nothing being in the way."""
    batch: float
    """Sequences that are checked together, at most."""
    value: float
    """Objective, in its own unit."""
    same_stages: bool
    """Whether that plan has the stages of the chosen one."""


class Worth(Spec):
    """A node that stands by, or the next one that could, and what it makes of the plan."""

    node: str
    chosen: bool
    """Whether it stands by."""
    usd_per_hour: float
    """What it costs."""
    tokens_per_hour: float
    """Output tokens of good requests that it saves."""
    availability_otherwise: float
    """Without it if it stands by, with it if it does not; so is the next one."""
    goodput_otherwise: float
    """Requests per second."""
    text: str


class Tie(Spec):
    """A plan that the objective hardly tells from the chosen one."""

    name: str
    value: float
    """Objective, in its own unit."""
    worse: float
    """Share of the objective by which it is worse; 0 where both are equal."""
    text: str


class LeftOut(Spec):
    """Nodes that hold no layers, all for the same reason."""

    nodes: tuple[str, ...]
    why: str


class Move(Spec):
    """What a node has to load."""

    node: str
    layers: int
    bytes: float
    seconds: float
    """From the coordinator's host, nothing else on the way."""


class Moves(Spec):
    """What it takes to get from the running plan to the new one."""

    loads: tuple[Move, ...]
    released: tuple[str, ...]
    """Nodes that the new plan does without."""
    bytes: float
    seconds: float
    """Until the last node has loaded, all at once."""


Stopped = Literal["proven", "effort", "time limit"]
"""The optimum is proven; all that is worth looking at was looked at; or time ran out."""


class Solution(Spec):
    """What ``solve`` answers; ``gap`` 0 means that no plan of the weights it is about is better."""

    plan: Plan
    prediction: Prediction
    value: float
    bound: float
    gap: float
    solver: str
    stopped: Stopped | None = None
    """Why the search ended; None where there was none."""
    bound_weights: Literal["any", "equal"] = "any"
    """Whether bound and gap are about plans of any routing weights, or of equal ones."""
    equal_value: float | None = None
    """Objective if the pipelines had equal weights; None where they have."""
    candidates: tuple[Candidate, ...] = ()
    ties: tuple[Tie, ...] = ()
    """Candidates that are as good, or nearly."""
    limits: tuple[Limit, ...] = ()
    hidden_costs: dict[str, float] = {}  # noqa: RUF012 (pydantic copies defaults)
    flips: tuple[CandidateFlip, ...] = ()
    fallback: Candidate | None = None
    fallback_text: str = ""
    left_out: tuple[LeftOut, ...] = ()
    seats: tuple[Seat, ...] = ()
    """The next best seats of the coordinator, where the plan chooses it."""
    standbys: tuple[Worth, ...] = ()
    """What each standby is worth, and the next one that does not stand by."""
    drafts: tuple[Drafts, ...] = ()
    """Every number of drafts, where the plan chooses it."""
    moves: Moves | None = None
    """Where another plan ran before."""
    warnings: tuple[str, ...] = ()


def proven_gap(cost: float, bound: float) -> float:
    """How far a cost may be from the least, as a share of it; 0 where rounding alone is between."""
    gap = max(0.0, cost - bound) / (abs(cost) or abs(bound) or 1.0)
    return 0.0 if gap < 1e-9 else gap
