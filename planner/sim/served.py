"""Served: a request on its way through a pipeline, and the batches that a job is."""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.core.cost import Batch
from planner.core.metrics import RequestRecord
from planner.core.schedule import Job

if TYPE_CHECKING:
    from planner.sim.cohort import Cohort


@dataclass(slots=True, eq=False)
class Served:
    """A request on its way; ``left`` is known to the oracle only."""

    record: RequestRecord
    told_tokens: int
    """Tokens of its prompt and of its answer, up to when it joined its cohort."""
    left: int
    counts: bool = True
    """Whether it enters the metrics; warm-up requests do not."""
    session: int | None = None
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
    luck: random.Random | None = None
    """Decides which drafts are accepted."""

    @property
    def owner(self) -> Hashable:
        """Whose prefix it can use again."""
        return ("session", self.session) if self.session is not None else self.record.id

    @property
    def pending_tokens(self) -> int:
        """Tokens it had since it joined its cohort."""
        return self.cohort.steps - self.joined if self.cohort is not None else 0

    @property
    def known_tokens(self) -> int:
        """Tokens of its prompt and its answer so far."""
        return self.told_tokens + (self.pending_tokens if self.cohort is not None else 0)

    @property
    def computed_tokens(self) -> int:
        """Of these, tokens that are in the cache."""
        return self.cached_tokens + (self.pending_tokens if self.cohort is not None else 0)

    def deliver(self, tokens: int) -> None:
        """Counts tokens that it has had."""
        self.told_tokens += tokens
        self.left -= tokens

    def begin_anew(self) -> None:
        """Forgets what was computed, but not whose it was."""
        self.shared_tokens = max(self.shared_tokens, self.known_tokens)
        self.cached_tokens = 0


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
