"""Losses of nodes: to be rehearsed, noticed and recovered from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from planner.core.problem import Problem
from planner.run.crew import Post
from planner.run.steps import Step


@dataclass(frozen=True, slots=True)
class Loss:
    """A node loss to rehearse."""

    node: str
    at_s: float
    """When, from the start of the run."""
    away_s: float | None = None
    """How long until the node is back; None for good."""
    hangs: bool = False
    """Whether its process stops without a word, instead of ending."""
    post: Post | None = None
    """Strikes whoever serves this stage then, instead of ``node``."""


@dataclass(frozen=True, slots=True)
class Care:
    """What is done about lost nodes."""

    problem: Problem
    as_sent: bool = False
    """Whether a lost cache is computed again in the original shapes."""
    losses: Sequence[Loss] = ()
    """Losses to rehearse."""


class Recovered(NamedTuple):
    """A stage that was lost and works again; seconds on the host's monotonic clock."""

    pipeline: int
    stage: int
    node: str
    """The node that was lost."""
    replacement: str
    lost_s: float
    """When it was struck, or else when it last gave a sign of life."""
    found_s: float
    recovered_s: float
    hot: bool
    """Whether the replacement had the weights."""
    replays: tuple[Step, ...] = ()
    """The stored inputs as the replacement computed them again, on the clock of its host."""


class Absence(NamedTuple):
    """When a node was away, on the host's monotonic clock (s)."""

    node: str
    gone_s: float
    back_s: float
    """Infinite where it did not come back."""


class Stranded(NamedTuple):
    """A pipeline lacks a stage that nobody can take."""

    pipeline: int
    reason: str
    at_s: float


class Whole(NamedTuple):
    """A pipeline works again."""

    pipeline: int
    at_s: float


class Back(NamedTuple):
    """A node came back, its worker ready."""

    node: str


class Fault(NamedTuple):
    """A thread met an error that it has no answer to."""

    error: Exception


Event = Stranded | Whole | Back | Fault
