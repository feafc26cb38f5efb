"""Step: what a stage did for one job, and how long it and the way to it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from planner.core.cost.batch import Batch, Phase


class Step(NamedTuple):
    """One job at one stage; times in seconds on the host's monotonic clock."""

    job: int
    phase: Phase
    sequences: int
    new_tokens: int
    context_tokens: int
    waited_s: float
    """How long the stage had nothing to do before the job came; 0 where the job lay ready."""
    received_s: float
    """When the stage took the job up, complete in memory."""
    computed_s: float
    """When its result was there, and on its way."""

    def after(self, origin_s: float) -> Step:
        """The same step on a clock that starts at ``origin_s``."""
        return self._replace(
            received_s=self.received_s - origin_s, computed_s=self.computed_s - origin_s
        )

    @property
    def batch(self) -> Batch:
        """What the cost model calls the same work."""
        return Batch(self.phase, self.sequences, self.new_tokens, self.context_tokens)

    @property
    def compute_s(self) -> float:
        """Seconds the stage worked on it."""
        return self.computed_s - self.received_s


class Hop(NamedTuple):
    """One job's way from one process to the next."""

    job: int
    phase: Phase
    new_tokens: int
    sequences: int
    seconds: float
    """From handing it over until the receiver had it, queueing on the link included."""


def hops(sent: Iterable[Step], received: Iterable[Step]) -> list[Hop]:
    """The ways between two neighbours, of the jobs whose receiver was waiting for them.

    If the receiver was busy, nobody saw when the job came.
    """
    left_s = {step.job: step.computed_s for step in sent}
    return [
        Hop(
            step.job,
            step.phase,
            step.new_tokens,
            step.sequences,
            step.received_s - left_s[step.job],
        )
        for step in received
        if step.job in left_s and step.waited_s > 0
    ]
