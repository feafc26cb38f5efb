"""Served: a request on its way through a pipeline, and the batch that a job is."""

from __future__ import annotations

import random
from dataclasses import dataclass

from planner.core.cost import Batch
from planner.core.metrics import RequestRecord
from planner.core.schedule import Job


@dataclass(slots=True, eq=False)
class Served:
    """A request on its way; ``left`` is known to the oracle only."""

    record: RequestRecord
    left: int
    counts: bool = True
    """Whether it enters the metrics; warm-up requests do not."""
    cached_tokens: int = 0
    slot: int = -1
    group: int = -1
    joined: int = 0
    """Steps of its cohort when it came, where tokens are not counted one by one."""
    luck: random.Random | None = None
    """Decides which drafts are accepted."""


def computed_tokens(sequence: Served) -> int:
    """Tokens a prefill computes; who begins anew computes the ones it had again."""
    return sequence.record.prompt_tokens + sequence.record.output_tokens


def batch_of(job: Job[Served], checked_tokens: int) -> Batch:
    """What a job computes; decode steps check the latest token and the drafts after it."""
    if job.phase == "prefill":
        return Batch.prefill(computed_tokens(job.sequences[0]))
    cached = sum(sequence.cached_tokens for sequence in job.sequences)
    return Batch.decode(len(job.sequences), cached, checked_tokens)
