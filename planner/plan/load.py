"""Load: what one pipeline of a plan has to serve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from planner.core.cost import Batch
from planner.core.workload import Fixed, Lengths, Workload
from planner.plan.tails import longer, no_idle, taken

_ANSWERS = 64
"""Lengths of answers that stand for all."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What a request finds that the router sends to a pipeline of several."""

    chance: float
    """That all seats are taken."""
    seat_s: float
    """Mean wait for one (s), if times of requests were exponential."""
    others_busy: float
    """How much likelier it finds somebody there than whoever looks at any time: at most 1."""


@dataclass(frozen=True)
class Load:
    """What one pipeline has to serve; what follows from it is worked out once."""

    workload: Workload
    seats: int
    groups: int
    users: float | None
    """Requests in the system of a closed loop; None where arrivals are open."""
    requests_per_s: float | None
    request_s: float
    """From arrival until a request can be scheduled."""
    tokens_per_step: float = 1.0
    """Expected tokens that a decode step brings each sequence."""
    checked_tokens: int = 1
    """Tokens of each sequence that a decode step computes."""
    found_tokens: float | None = None
    """Expected tokens of a prompt that are in a cache already; None where none has a prefix."""
    prompt_unevenness: float = 0.0
    """Squared coefficient of variation of what is computed of a prompt."""
    luck: bool = False
    """Whether the number of decode steps is drawn: drafts are right by chance."""
    bounds_s: Mapping[str, float] = field(default_factory=dict)
    """Bounds on the latencies of a request, by name: what it has to meet to be a good one."""
    share: float = 1.0
    """Share of the plan's requests that come to this pipeline."""
    mixed: bool = False
    """Whether prompts go with steps of those who decode, as under vLLM's rules."""
    pool: Pool | None = None
    """The whole plan under open arrivals; None where the rest is taken to be like this pipeline."""

    @cached_property
    def in_waves(self) -> bool:
        """Whether its requests start and end together: all alike, or none beside another."""
        if self.users is None or not isinstance(self.workload.prompts, Fixed):
            return False
        alone = min(self.users, float(self.seats)) <= 1
        return isinstance(self.workload.output, Fixed) and (alone or not self.luck)

    @property
    def first_share(self) -> float:
        """Share of the requests that come at once at the start: the first one of each user."""
        users = float(self.workload.concurrency or 0) - self.workload.warmup_requests
        return min(1.0, max(0.0, users) / self.workload.requests)

    @cached_property
    def prompt_tokens(self) -> float:
        """Expected prompt."""
        return self.workload.prompts.mean_tokens

    @cached_property
    def prompt(self) -> Batch:
        """What is computed of an expected prompt."""
        found_tokens = self.found_tokens or 0.0
        closed = self.users is not None
        beside = self.mixed and closed and self.active >= 2 * self.groups
        return Batch.prefill(self.prompt_tokens - found_tokens, found_tokens, beside=beside)

    @property
    def prefix_found(self) -> float | None:
        """Share of a prompt that is in a cache already."""
        return None if self.found_tokens is None else self.found_tokens / self.prompt_tokens

    @cached_property
    def steps(self) -> float:
        """Expected decode steps of a request."""
        return self.later_tokens / self.tokens_per_step

    @cached_property
    def later_tokens(self) -> float:
        """Expected output tokens of a request after the first."""
        return max(0.0, self.workload.output.mean_tokens - 1)

    def longer(self, percent: float) -> float:
        """How much longer than the mean a prompt of that percentile is, as a share of the mean."""
        if percent not in self._longer:
            self._longer[percent] = longer(self.workload, self.prompt_unevenness, percent)
        return self._longer[percent]

    @cached_property
    def _longer(self) -> dict[float, float]:
        return {}

    @cached_property
    def active(self) -> float:
        """Users of a closed loop that have a seat; all seats where arrivals are open."""
        return float(self.seats) if self.users is None else min(self.users, float(self.seats))

    def others_busy(self, running: float) -> float:
        """How much likelier a request finds somebody there than whoever looks at any time.

        If nothing is known of the other pipelines, as if they were like this one for its share.
        """
        if self.pool is not None:
            return self.pool.others_busy
        return no_idle(self.share, 1 - math.exp(-running))

    def for_seat(self, used: float, freed_per_s: float) -> tuple[float, float]:
        """Chance that a request waits for a seat, and how long (s) if times were exponential.

        The router sends a request to the pipeline with the least on it, so it waits only where the
        seats of all are taken, which then come free at the rate that all can serve: M/M/c, its
        chance as Sakasegawa (1977) has it. Again as if the others were alike.
        """
        if self.pool is not None:
            return self.pool.chance, self.pool.seat_s
        chance = taken(self.seats / self.share, used)
        return chance, chance * self.share / (freed_per_s * (1 - used))

    @cached_property
    def busy_groups(self) -> float:
        """Groups that anybody is in: no more than there are users, who spread over them."""
        return min(float(self.groups), self.active)

    @cached_property
    def answers(self) -> tuple[float, ...]:
        """Output tokens of equally likely requests; the mean where nothing bounds the whole."""
        output = self.workload.output
        return _answers(output) if "e2el" in self.bounds_s else (output.mean_tokens,)

    @cached_property
    def batches(self) -> tuple[float, ...]:
        """Sequences per decode step at which step times are needed, rising; one at least."""
        if self.users is not None:
            return (max(1.0, self.active / self.groups),)
        most = max(1.0, self.seats / self.groups)
        doubling = [2.0**power for power in range(math.ceil(math.log2(most)) + 1)]
        return tuple(sorted({*(b for b in doubling if b < most), most}))


@lru_cache(maxsize=64)
def _answers(output: Lengths) -> tuple[float, ...]:
    """Lengths of answers that stand for all, equally likely."""
    if isinstance(output, Fixed):
        return (output.mean_tokens,)
    return tuple(output.quantile((k + 0.5) / _ANSWERS) for k in range(_ANSWERS))
