"""Outage: how often a pipeline loses a stage, and for how long it is out then.

A stage is held by the first of its candidates that is there when it is lost: the node the plan
names, then its standbys in the order of the plan. Who holds it keeps it until it goes. So the
holders are a Markov chain over losses, and the time between two losses is how long a holder stays
(a semi-Markov process: Ross, Introduction to Probability Models, 4.8 and 7.6). Whether another
candidate is there is taken as independent of that. Stages whose nodes go together are lost at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from planner.core.cost.availability import fate, node_up_share, pipeline_availability
from planner.core.cost.ledger import returns_per_hour
from planner.core.cost.recovery import recovery
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem

_HOUR_S = 3600.0
_TURNS, _SETTLED = 500, 1e-12
"""Steps of the chain until shares of the holders change no more."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A pipeline in the long run, per hour."""

    availability: float
    """Share of the time that every stage has a node."""
    losses: float
    """How often a stage is lost that was held."""
    strandings: float
    """How often nobody is there to take a lost stage."""
    taking_over_s: float
    """What noticing and taking over take, each loss by itself; a stage that nobody can take not
    counted."""

    @property
    def away_s(self) -> float:
        """How long a stage has no node."""
        return _HOUR_S * (1 - self.availability)

    @property
    def recovering_s(self) -> float:
        """How long losses are made good while all stages have a node, several at once counted once.

        Losses come at random, so none is being made good for a share of exp(-rate x time) of that
        time: the empty system of M/G/infinity (Takacs, Introduction to the Theory of Queues, 3.2).
        """
        there_s = _HOUR_S - self.away_s
        return there_s * -math.expm1(-self.taking_over_s / there_s) if there_s else 0.0

    @property
    def each_s(self) -> float:
        """How long the pipeline is out for a loss."""
        return (self.away_s + self.recovering_s) / self.losses if self.losses else 0.0


NEVER = Outage(1.0, 0.0, 0.0, 0.0)
"""Of a pipeline that loses no node."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that can hold a stage."""

    share: float
    """Of the time, that it is there."""
    goes: float
    """How often it goes, per hour."""
    takeover_s: float
    """From noticing the loss on until it has taken over."""

    @property
    def stays_s(self) -> float:
        """How long it stays in the mean."""
        return _HOUR_S * self.share / self.goes if self.goes else math.inf

    @property
    def returns(self) -> float:
        """How often it comes back while it is away (1/s)."""
        away = 1 - self.share
        return self.goes / _HOUR_S / away if away > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """What outages of the pipelines of a plan share, whatever else stands by."""

    candidates: dict[Standby, Candidate] = field(default_factory=dict)
    availability: dict[tuple[object, ...], float] = field(default_factory=dict)
    """By who backs which stage of which pipeline, in order."""


def outage(
    problem: Problem, plan: Plan, index: int, sequences: float, known: Known | None = None
) -> Outage:
    """What is to be expected of a pipeline in which so many sequences have a seat at a loss.

    What is ``known`` of candidates is not looked at again, and what is found joins it.
    """
    known = Known() if known is None else known
    backed = (index, *((one.node, one.stage) for one in plan.standbys if one.pipeline == index))
    if backed not in known.availability:
        known.availability[backed] = pipeline_availability(problem.cluster, plan, index)
    together: dict[tuple[str, str], tuple[float, float, float]] = {}
    for stage, name in enumerate(plan.pipelines[index].nodes):
        if not returns_per_hour(problem, name):
            continue
        each = _candidates(problem, plan, index, stage, sequences, known)
        found = stage_losses(problem.serving.detect_s, tuple(each))
        key = fate(problem.cluster, name)
        together[key] = max(found, together.get(key, found))
    return Outage(
        known.availability[backed],
        *(math.fsum(one[part] for one in together.values()) for part in range(3)),
    )


def holding(problem: Problem, plan: Plan, index: int, stage: int) -> dict[str, float]:
    """Of the time in which somebody holds a stage of a pipeline, the share of each who can."""
    cluster, places = problem.cluster, _places(problem, plan, index, stage)
    if len(places) == 1:
        return {places[0].node: 1.0}
    each = tuple(
        Candidate(node_up_share(cluster, one.node), returns_per_hour(problem, one.node), 0.0)
        for one in places
    )
    return dict(zip((one.node for one in places), _held_shares(each), strict=True))


def _candidates(
    problem: Problem, plan: Plan, index: int, stage: int, sequences: float, known: Known
) -> list[Candidate]:
    """Who can hold a stage, in order of preference; no two of them go together."""
    places = _places(problem, plan, index, stage)
    for one in places:
        if one not in known.candidates:
            known.candidates[one] = Candidate(
                node_up_share(problem.cluster, one.node),
                returns_per_hour(problem, one.node),
                recovery(problem, plan, _as_found(problem, one), sequences).total_s,
            )
    return [known.candidates[one] for one in places]


def _places(problem: Problem, plan: Plan, index: int, stage: int) -> list[Standby]:
    """A stage's own node, as if it stood by, and its standbys, in order of preference."""
    cluster, nodes = problem.cluster, plan.pipelines[index].nodes
    own, home = nodes[stage], cluster.coordinator
    places = [Standby(node=own, pipeline=index, stage=stage, state="hot")]
    places += [one for one in plan.standbys if (one.pipeline, one.stage) == (index, stage)]
    before, after = (home, *nodes)[stage], (*nodes, home)[stage + 1]
    found: dict[tuple[str, str], Standby] = {}
    for one in places:
        key, ends = (
            fate(cluster, one.node),
            ((before, one.node), (one.node, after), (home, one.node)),
        )
        if key in found or not (one.node == own or all(cluster.connected(*pair) for pair in ends)):
            continue  # a second one that goes with it is there when it is
        found[key] = one
    return list(found.values())


def _as_found(problem: Problem, one: Standby) -> Standby:
    """A node as a later loss finds it: a rented one that went has lost the weights it had."""
    cluster = problem.cluster
    lost = cluster.node(one.node).trust == "rented" and returns_per_hour(problem, one.node) > 0
    there = cluster.connected(cluster.coordinator, one.node)
    return one.model_copy(update={"state": "cold"}) if lost and there else one


@lru_cache(maxsize=1 << 14)
def stage_losses(detect_s: float, candidates: tuple[Candidate, ...]) -> tuple[float, float, float]:
    """Losses of a stage per hour, those that nobody is there for, and seconds of recovering."""
    waits = math.fsum(one.returns for one in candidates)
    wait_s = 1 / waits if waits else 0.0
    takes = [_taken_by(candidates, holder) for holder in range(len(candidates))]
    shares = _holders(candidates, takes)
    held = [one for share, one in zip(shares, candidates, strict=True) if share]
    if any(math.isinf(one.stays_s) for one in held):
        return 0.0, 0.0, 0.0
    cycle_s = recovering_s = stranded = 0.0
    late_s = detect_s - wait_s * -math.expm1(-detect_s / wait_s) if wait_s else detect_s
    for holder, share in enumerate(shares):
        nobody = 1 - math.fsum(takes[holder])
        stranded += share * nobody
        cycle_s += share * (candidates[holder].stays_s + nobody * wait_s)
        for chance, other in zip(takes[holder], candidates, strict=True):
            alone = nobody * other.returns / waits if waits else 0.0
            seconds = chance * (detect_s + other.takeover_s) + alone * (late_s + other.takeover_s)
            recovering_s += share * seconds
    losses = _HOUR_S / cycle_s
    return losses, losses * stranded, losses * recovering_s


@lru_cache(maxsize=1 << 14)
def _held_shares(candidates: tuple[Candidate, ...]) -> tuple[float, ...]:
    """Share of the time that each candidate holds the stage, of that in which one of them does."""
    takes = [_taken_by(candidates, holder) for holder in range(len(candidates))]
    shares = _holders(candidates, takes)
    ever = [
        share if math.isinf(one.stays_s) else 0.0
        for share, one in zip(shares, candidates, strict=True)
    ]
    if not any(ever):
        ever = [share * one.stays_s for share, one in zip(shares, candidates, strict=True)]
    whole = math.fsum(ever)
    return tuple(held / whole for held in ever)


def _taken_by(candidates: Sequence[Candidate], holder: int) -> list[float]:
    """Chance that each candidate is there and first to take a stage when its holder goes."""
    left, chances = 1.0, []
    for other, one in enumerate(candidates):
        chances.append(left * one.share if other != holder else 0.0)
        left -= chances[-1]
    return chances


def _holders(candidates: Sequence[Candidate], takes: Sequence[Sequence[float]]) -> list[float]:
    """Share of the losses at which each candidate is the holder: the chain's stationary shares."""
    count = len(candidates)
    waits = math.fsum(one.returns for one in candidates)
    shares = [1.0] + [0.0] * (count - 1)
    for _ in range(_TURNS):
        after = [share / 2 for share in shares]  # it may swing between two holders for ever
        for holder, share in enumerate(shares):
            nobody = 1 - math.fsum(takes[holder])
            for other, one in enumerate(candidates):
                back = nobody * one.returns / waits if waits else float(other == holder) * nobody
                after[other] += share * (takes[holder][other] + back) / 2
        settled = max(abs(a - b) for a, b in zip(after, shares, strict=True)) < _SETTLED
        shares = after
        if settled:
            break
    return shares
