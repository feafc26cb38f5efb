"""From the times of single steps to what users feel, by the serving rules all of planner shares.

The rules are in ``docs/life-of-a-request.md``. A closed loop of fixed lengths moves in waves,
which are followed step by step; everything else, drafts of uncertain luck included, is a mean-field
picture of the same loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.plan.cohorts import Group, with_prompt
from planner.plan.load import Load
from planner.plan.tails import STATISTICS, Statistics, Waits, full, sampled
from planner.plan.within import sampled_within, waiting_within


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
    last_s = max(0.0, active - 1) * steps.prefill_gap_s
    wave_s = load.request_s + steps.prefill_s + last_s + decode_s
    if not wanted and not load.bounds_s:  # a search that asks for the rate alone asks often
        return Felt({}, {}, {}, active / wave_s, active)
    waited_s = max(0.0, users - active) / active * wave_s
    first_s = load.request_s + steps.prefill_s + waited_s
    behind = [float(k) for k in range(max(1, round(active)))]
    ttft = [first_s + min(k * steps.prefill_gap_s, last_s) for k in behind]
    ends_s, count = waited_s + wave_s, load.later_tokens
    tpot = [(ends_s - value) / count for value in ttft] if count else []
    e2el = [ends_s] if count else ttft
    ttft_s, tpot_s, e2el_s = (sampled(sample, wanted) for sample in (ttft, tpot, e2el))
    good = sampled_within(load.bounds_s, ttft, tpot, e2el)
    return Felt(ttft_s, tpot_s, e2el_s, active / wave_s, active, good=good)


def _staggered(load: Load, steps: Steps, users: float, wanted: Statistics) -> Felt:
    """Requests of different lengths: each newcomer's prompt halts its group once.

    A request is there for its prompt's way through, its decode rounds, and the prompts of others.
    """
    active, groups = load.active, load.busy_groups
    rounds_s = _rounds_s(load, steps, 0)
    others_s = (active - 1) * _halt_s(load, steps, groups, active, rounds_s)
    each_s = (steps.prefill_s + others_s + rounds_s) / active
    rate = 1 / each_s
    waited_s = max(0.0, users - active) * each_s
    times_s = load.request_s, steps.prefill_s, steps.prefill_gap_s
    group = Group(active, groups, max(1.0, load.steps), *times_s, load.mixed)
    halt_s = group.halt_s(rounds_s / group.steps, load.first_share)
    ttft_s = load.request_s + waited_s + halt_s + steps.prefill_s
    # what is left for later tokens must not fall where a prompt takes longer
    apart = replace(group, prefill_gap_s=0.0 if load.mixed else steps.prefill_s)
    before_s = apart.halt_s(rounds_s / group.steps, load.first_share)
    later_s = active * each_s - load.request_s - steps.prefill_s - before_s
    tpot_s = max(rounds_s, later_s) / load.later_tokens if load.steps else None
    base_s, ahead = ttft_s - halt_s - waited_s, max(1.0, users - active)
    waits = (Waits(halt_s, waited_s, float(waited_s > 0), ahead),)
    return _spread(load, steps, base_s, waits, tpot_s, rate, active, wanted)


def _halt_s(load: Load, steps: Steps, groups: float, running: float, decode_s: float) -> float:
    """How long a prompt halts its pipeline (s), in the mean over the groups.

    Its own group waits for all of its way; under vLLM's rules it goes with a step of those who
    decode, who wait only for what it takes longer than that. Nothing overtakes it on the way, so
    the other groups, which follow anywhere within a step, wait for that less their distance. Of
    several prompts in one round those after the first follow it closely. ``decode_s`` are all steps
    of an answer; where more requests than one end in a step, their prompts share it. Grows with
    each of the times, and falls less than ``decode_s / running`` grows.
    """
    if not load.steps:
        return max(steps.prefill_s / groups, steps.prefill_gap_s)
    step_s = decode_s / max(load.steps, 1.5 * running)
    longer_s = max(0.0, steps.prefill_s - step_s)
    own_s = longer_s if load.mixed else steps.prefill_s
    beside_s = longer_s**2 / (longer_s + step_s / 2) if longer_s else 0.0
    first_s = (own_s + (groups - 1) * beside_s) / groups
    often = min(1.0, running / (groups * load.steps))
    first = with_prompt(load.steps, running, groups) / (groups * often)
    return first * first_s + (1 - first) * max(own_s / groups, steps.prefill_gap_s)


def _open(load: Load, steps: Steps, wanted: Statistics) -> Felt:
    """Requests come on their own: Little's law fixes how many are in the system.

    What percentiles are made of is in ``tails``.
    """
    rate = load.requests_per_s or 0.0
    busy = rate * steps.prefill_s / load.groups
    rounds_s = [_rounds_s(load, steps, index) for index in range(len(load.batches))]
    capacity = _completed_per_s(load, steps, rounds_s, load.seats)
    if rate >= capacity or busy >= 1:
        good = 0.0 if load.bounds_s else 1.0
        return Felt({}, {}, {}, capacity, float(load.seats), overloaded=True, good=good)
    prompt_s = _prompts_before_s(load, steps, rate, busy)

    def decode_s(running: float) -> float:
        seen = busy * load.others_busy(running)
        return _decode_s(load, steps, seen, prompt_s, running, rounds_s)

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
    halt_s = (1 - math.exp(-running)) * step_s / (1 - busy) / 2
    service_s = steps.prefill_s + decode_s(running)
    freed_per_s = load.seats / (steps.prefill_s + decode_s(float(load.seats)))
    chance, seat_s = load.for_seat(rate / capacity, freed_per_s)
    seat_s *= (1 + _unevenness(load, steps, service_s)) / 2
    inside_s = load.others_busy(running) * (halt_s + prompt_s)
    beside_s = (1 - 1 / load.seats) * inside_s
    waits = (Waits(inside_s), Waits(beside_s, seat_s, chance))
    base_s = load.request_s + steps.prefill_s
    given = _spread(load, steps, base_s, waits, token_s, rate, max(1.0, running), wanted)
    return replace(given, used=rate / capacity)


def completed_per_s(load: Load, steps: Steps) -> tuple[float, ...]:
    """Requests per second that are completed with 1, 2, ... in the pipeline up to its seats."""
    rounds_s = [_rounds_s(load, steps, index) for index in range(len(load.batches))]
    return tuple(_completed_per_s(load, steps, rounds_s, n + 1) for n in range(load.seats))


def _completed_per_s(load: Load, steps: Steps, rounds_s: Sequence[float], running: int) -> float:
    """The same with so many: each takes its prompt's way and its share of the decode steps."""
    decode_s = _between(load.batches, rounds_s, running / load.groups)
    return 1 / (steps.prefill_s / load.groups + decode_s / running)


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
    met: float,
    prompt_s: float,
    running: float,
    rounds_s: Sequence[float],
) -> float:
    """From the first to the last token, with the prompts that go first.

    Those are the prompts that came while this one waited and was computed, and those that come
    while they and the answer are: low priority (Cobham 1954). They take a share ``met`` of the time
    in which somebody is there. A seat sees no prompt of its own: with all others taken, each of
    these brings one in the time of a request.
    """
    if not load.steps:
        return 0.0
    seen = met * (1 - full(load.seats - 1, running) / load.seats)
    own_s = _between(load.batches, rounds_s, running / load.groups)
    most_s = own_s + (load.seats - 1) * steps.prefill_s / load.groups
    return min(most_s, (own_s + seen * (prompt_s + steps.prefill_s)) / (1 - seen))


def _unevenness(load: Load, steps: Steps, service_s: float) -> float:
    """Squared coefficient of variation of how long requests have a seat."""
    decoding_s = service_s - steps.prefill_s
    uneven = load.prompt_unevenness * steps.prefill_gap_s**2
    uneven += load.workload.output.unevenness * decoding_s**2
    return uneven / service_s**2


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
