"""From the times of single steps to what users feel, by the serving rules all of planner shares.

The rules are in ``docs/life-of-a-request.md``. A closed loop of fixed lengths moves in waves,
which are followed step by step; everything else, drafts of uncertain luck included, is a mean-field
picture of the same loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from planner.core.cost import Batch
from planner.core.workload import Fixed, Lengths, Workload
from planner.plan.cohorts import Group
from planner.plan.tails import STATISTICS, Statistics, Waits, full, longer, no_idle, sampled, taken
from planner.plan.within import sampled_within, waiting_within

_ANSWERS = 64
"""Lengths of answers that stand for all."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Times of a pipeline's steps (s); every metric grows with each of them."""

    prefill_s: float
    """One prompt's way through, nothing else in its way."""
    prefill_gap_s: float
    """Least time between two prompts that follow each other."""
    decode_s: tuple[float, ...]
    """All decode steps of a request, at each of the load's batches."""
    decode_gap_s: tuple[float, ...]
    """The same if one stage or line were all there is: what other groups wait for."""


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
        return Batch.prefill(self.prompt_tokens - found_tokens, found_tokens)

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

    @property
    def pooled_seats(self) -> float:
        """Seats of the whole plan, if the rest of it were like this pipeline for its share.

        The router sends a request to the pipeline with the least on it, so it waits for a seat only
        where all are taken.
        """
        return self.seats / self.share

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


@dataclass(frozen=True, slots=True)
class Felt:
    """Latencies (s) and rate of one pipeline; empty samples where it is overloaded."""

    ttft_s: dict[str, float]
    tpot_s: dict[str, float]
    e2el_s: dict[str, float]
    requests_per_s: float
    batch: float
    """Sequences in an expected decode step."""
    overloaded: bool = False
    good: float = 1.0
    """Share of the requests that meet every bound on a latency, while all nodes are there."""
    used: float = 1.0
    """Rate of open arrivals as a share of what the pipeline could serve."""


def felt(load: Load, steps: Steps, wanted: Statistics = STATISTICS) -> Felt:
    """What users of a pipeline feel, given its step times."""
    if load.users is None:
        return _open(load, steps, wanted)
    if load.in_waves:
        return _waves(load, steps, load.users, wanted)
    return _staggered(load, steps, load.users, wanted)


def _waves(load: Load, steps: Steps, users: float, wanted: Statistics) -> Felt:
    """Equal requests start and end together: all prompts back to back, then all decode steps.

    The k-th of identical jobs leaves a line of first-come-first-served servers k - 1 times the
    longest service after the first. More users than seats wait for whole waves.
    """
    active = load.active
    decode_s = _rounds_s(load, steps, 0)
    behind = [float(k) for k in range(max(1, round(active)))]
    last_s = max(0.0, active - 1) * steps.prefill_gap_s
    wave_s = load.request_s + steps.prefill_s + last_s + decode_s
    waited_s = max(0.0, users - active) / active * wave_s
    first_s = load.request_s + steps.prefill_s + waited_s
    ttft = [first_s + min(k * steps.prefill_gap_s, last_s) for k in behind]
    ends_s, count = waited_s + wave_s, load.later_tokens
    tpot = [(ends_s - value) / count for value in ttft] if count else []
    e2el = [ends_s] if count else ttft
    ttft_s, tpot_s, e2el_s = (sampled(sample, wanted) for sample in (ttft, tpot, e2el))
    good = sampled_within(load.bounds_s, ttft, tpot, e2el)
    return Felt(ttft_s, tpot_s, e2el_s, active / wave_s, active, good=good)


def _staggered(load: Load, steps: Steps, users: float, wanted: Statistics) -> Felt:
    """Requests of different lengths: each newcomer's prompt halts its group once.

    One completed request takes its prompt's way through and its share of the decode rounds.
    """
    active = load.active
    rounds_s = _rounds_s(load, steps, 0)
    each_s = steps.prefill_s / load.busy_groups + rounds_s / active
    rate = 1 / each_s
    waited_s = max(0.0, users - active) * each_s
    before_s = load.request_s, steps.prefill_s, steps.prefill_gap_s
    group = Group(active, load.busy_groups, max(1.0, load.steps), *before_s)
    halt_s = group.halt_s(rounds_s / group.steps, load.first_share)
    ttft_s = load.request_s + waited_s + halt_s + steps.prefill_s
    whole_s = max(users * each_s, ttft_s + rounds_s)
    tpot_s = (whole_s - ttft_s) / load.later_tokens if load.steps else None
    base_s, waits = ttft_s - halt_s - waited_s, (Waits(halt_s + waited_s),)
    return _spread(load, steps, base_s, waits, tpot_s, rate, active, wanted)


def _open(load: Load, steps: Steps, wanted: Statistics) -> Felt:
    """Requests come on their own: Little's law fixes how many are in the system.

    What percentiles are made of is in ``tails``.
    """
    rate = load.requests_per_s or 0.0
    busy = rate * steps.prefill_s / load.groups
    full_s = _rounds_s(load, steps, len(load.batches) - 1)
    capacity = 1 / (steps.prefill_s / load.groups + full_s / load.seats)
    if rate >= capacity or busy >= 1:
        good = 0.0 if load.bounds_s else 1.0
        return Felt({}, {}, {}, capacity, float(load.seats), overloaded=True, good=good)
    prompt_s = _prompts_before_s(load, steps, rate, busy)
    rounds_s = [_rounds_s(load, steps, index) for index in range(len(load.batches))]

    def decode_s(running: float) -> float:
        return _decode_s(load, steps, busy, prompt_s, running, rounds_s)

    low, high = 0.0, float(load.seats)
    for _ in range(60):
        middle = (low + high) / 2
        if rate * (steps.prefill_s + decode_s(middle)) > middle:
            low = middle
        else:
            high = middle
    running = high
    token_s = decode_s(running) / load.later_tokens if load.steps else None
    step_s = _between(load.batches, rounds_s, running / load.groups) / (load.steps or 1.0)
    halt_s = (somebody := 1 - math.exp(-running)) * step_s / (1 - busy) / 2
    seat_s = _seat_s(load, steps, rate / capacity, decode_s(running))
    inside_s = no_idle(load.share, somebody) * (halt_s + prompt_s)
    beside_s = (1 - 1 / load.seats) * inside_s
    chance = taken(load.pooled_seats, rate / capacity)
    waits = (Waits(inside_s), Waits(beside_s, seat_s, chance))
    base_s = load.request_s + steps.prefill_s
    given = _spread(load, steps, base_s, waits, token_s, rate, max(1.0, running), wanted)
    return replace(given, used=rate / capacity)


def _prompts_before_s(load: Load, steps: Steps, rate: float, busy: float) -> float:
    """Wait for the prompts before one (M/G/1; Pollaczek-Khinchine; Allen-Cunneen with replicas).

    What varies with the length of a prompt is what the longest place takes, at least. Of pipelines
    that take turns, gaps between requests vary by ``share`` (squared): Erlang.
    """
    square_s2 = load.share * steps.prefill_s**2 + load.prompt_unevenness * steps.prefill_gap_s**2
    return rate / load.groups * square_s2 / (2 * (1 - busy))


def _decode_s(
    load: Load,
    steps: Steps,
    busy: float,
    prompt_s: float,
    running: float,
    rounds_s: Sequence[float],
) -> float:
    """From the first to the last token, with the prompts that go first.

    Those are the prompts that came while this one waited and was computed, and those that come
    while they and the answer are: low priority (Cobham 1954). A seat sees no prompt of its own:
    with all others taken, each of these brings one in the time of a request.
    """
    if not load.steps:
        return 0.0
    seen = busy * (1 - full(load.seats - 1, running) / load.seats)
    own_s = _between(load.batches, rounds_s, running / load.groups)
    most_s = own_s + (load.seats - 1) * steps.prefill_s / load.groups
    return min(most_s, (own_s + seen * (prompt_s + steps.prefill_s)) / (1 - seen))


def _seat_s(load: Load, steps: Steps, used: float, decoding_s: float) -> float:
    """Wait for a seat: several servers at that utilisation (Sakasegawa 1977)."""
    service_s = steps.prefill_s + decoding_s
    uneven = load.prompt_unevenness * steps.prefill_gap_s**2
    uneven += load.workload.output.unevenness * decoding_s**2
    waits = taken(load.pooled_seats, used) / (load.pooled_seats * (1 - used))
    return waits * service_s * (1 + uneven / service_s**2) / 2


def _rounds_s(load: Load, steps: Steps, index: int) -> float:
    """All decode steps of a request, other groups being in the way (s)."""
    return max(steps.decode_s[index], load.busy_groups * steps.decode_gap_s[index])


def _between(batches: Sequence[float], values_s: Sequence[float], batch: float) -> float:
    """Decode seconds of a request at ``batch`` sequences per step, linear between batches."""
    if batch <= batches[0]:
        return values_s[0]
    for index in range(1, len(batches)):
        if batch <= batches[index]:
            share = (batch - batches[index - 1]) / (batches[index] - batches[index - 1])
            return values_s[index - 1] + share * (values_s[index] - values_s[index - 1])
    return values_s[-1]


def _spread(
    load: Load,
    steps: Steps,
    base_s: float,
    waits: Sequence[Waits],
    token_s: float | None,
    rate: float,
    batch: float,
    wanted: Statistics,
) -> Felt:
    """Percentiles from waits, the longer of which counts, and lengths of prompts and answers."""
    ttft, tpot, e2el = {}, {}, {}
    waits_s, output, pace_s = max(one.mean_s for one in waits), load.workload.output, token_s or 0.0
    first_s = base_s + waits_s
    last_s = first_s + pace_s * max(0.0, output.mean_tokens - 1)
    for name, percent in wanted.items():
        later_s = longer_s = 0.0
        if percent is not None:
            first = (one.first_s(percent, steps.prefill_s, load.longer) for one in waits)
            later_s = max(first) - waits_s
            longer_s = pace_s * (output.quantile(percent / 100) - output.mean_tokens)
        ttft[name] = first_s + later_s
        if token_s is not None:
            tpot[name] = token_s
        apart = later_s > 0 and longer_s > 0
        e2el[name] = last_s + (math.hypot(later_s, longer_s) if apart else later_s + longer_s)
    good = waiting_within(load.bounds_s, base_s, waits_s, token_s, load.answers)
    return Felt(ttft, tpot, e2el, rate, batch, good=good)
