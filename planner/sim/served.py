"""Served: a request on its way through a pipeline, and the batches that a job is."""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.core.cost import Batch
from planner.core.metrics import Status
from planner.core.outcomes import STATUSES, Outcomes
from planner.core.request import Request
from planner.core.schedule import Job

if TYPE_CHECKING:
    from planner.sim.cohort import Cohort


@dataclass(slots=True, eq=False)
class Served:
    """A request on its way, and what has become of it; ``left`` is known to the oracle only."""

    request: Request
    pipeline: int
    arrival_s: float
    """When it came."""
    told_tokens: int
    """Tokens of its prompt and of its answer, up to when it joined its cohort."""
    left: int
    counts: bool = True
    """Whether it enters the metrics; warm-up requests do not."""
    shared_tokens: int = 0
    """Leading tokens that may still be in the cache from before."""
    cached_tokens: int = 0
    slot: int = -1
    group: int = -1
    cohort: Cohort | None = None
    """Those it decodes with, where tokens are not counted one by one; ``left`` and
    ``cached_tokens`` are then those it had when it joined."""
    joined: int = 0
    """Steps of its cohort when it came."""
    joins: int = 0
    """How many had come to its cohort then, itself included."""
    luck: random.Random | None = None
    """Decides which drafts are accepted."""
    status: Status = "running"
    reason: str = ""
    """Why it failed."""
    begun_s: float = math.inf
    """When its first job began."""
    first_s: float = math.inf
    """When its first token reached the client."""
    last_s: float = math.inf
    """When the latest one did, up to when it joined its cohort."""
    token_s: list[float] | None = None
    """When each did, where every step is an event."""

    @property
    def session(self) -> int | None:
        """The conversation it is a turn of."""
        return self.request.session

    @property
    def owner(self) -> Hashable:
        """Whose prefix it can use again."""
        session = self.request.session
        return ("session", session) if session is not None else self.request.id

    @property
    def known_tokens(self) -> int:
        """Tokens of its prompt and its answer so far."""
        if self.cohort is None:
            return self.told_tokens
        return self.told_tokens + self.cohort.steps - self.joined

    @property
    def computed_tokens(self) -> int:
        """Of these, tokens that are in the cache."""
        if self.cohort is None:
            return self.cached_tokens
        return self.cached_tokens + self.cohort.steps - self.joined

    def deliver(self, tokens: int, last_s: float) -> None:
        """Notes that it has had more tokens, the last of them at ``last_s``."""
        self.told_tokens += tokens
        self.left -= tokens
        self.last_s = last_s

    def begin_anew(self) -> None:
        """Forgets what was computed, but not whose it was."""
        self.shared_tokens = max(self.shared_tokens, self.known_tokens)
        self.cached_tokens = 0


def outcomes(everyone: Sequence[Served], *, every_token: bool) -> Outcomes:
    """What has become of requests; with ``every_token`` their records hold when each came."""
    count = len(everyone)

    def column(name: str, kind: type = float) -> Any:
        return np.fromiter(map(attrgetter(name), everyone), kind, count)

    prompts = column("request.prompt_tokens", int)
    return Outcomes(
        id=column("request.id", int),
        pipeline=column("pipeline", int),
        prompt_tokens=prompts,
        output_tokens=column("told_tokens", int) - prompts,
        arrival_s=column("arrival_s"),
        begun_s=column("begun_s"),
        first_s=column("first_s"),
        last_s=column("last_s"),
        status=np.fromiter(map(STATUSES.index, map(attrgetter("status"), everyone)), int, count),
        reasons={one.request.id: one.reason for one in everyone if one.reason},
        token_s=[one.token_s or () for one in everyone] if every_token else None,
    )


def batches_of(job: Job[Served], checked_tokens: int, skew: float) -> tuple[Batch, ...]:
    """What a job computes; decode steps check the latest token and the drafts after it."""
    if job.phase == "prefill" and not job.pieces:
        return (Batch.prefill(job.sequences[0].known_tokens),)
    pieces = tuple(Batch.prefill(piece.tokens, piece.cached_tokens) for piece in job.pieces)
    if not job.sequences:
        return pieces
    cached = [sequence.cached_tokens for sequence in job.sequences]
    longest = max(cached)
    return (Batch.uneven(len(cached), sum(cached), longest, skew, checked_tokens), *pieces)


def sent(batches: tuple[Batch, ...]) -> Batch:
    """What batches that are computed together send over the links."""
    if len(batches) == 1:
        return batches[0]
    sequences = sum(batch.sequences for batch in batches)
    return Batch("prefill", sequences, sum(batch.new_tokens for batch in batches), 0)
