"""Forecast: how long steps will take, by a profile and by steps that were made a moment ago.

The speed of a shared host wanders: it is much the same after a second and forgets what it was
within some. So what a profile says is a mean over minutes, of models that were not quite this one,
and what a rehearsal says is a sample of a few seconds. Neither is the best guess; their mean,
weighed by how far each is likely to be off, is. Everything here is a logarithm of a ratio: a host
that is twice as slow is as far off as one that is twice as fast.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from planner.core.cost.batch import Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration
from planner.core.problem import Problem
from planner.core.trust import ErrorBand, Regime, Trust

CORRELATION_S = 3.0
"""Time in which the correlation of a host's speed with what it was falls to 1/e; measured on
virtual machines that share their cores (``docs/measured/run.md``)."""

_BLOCKS = 3
"""Into which the rounds of a rehearsal are gathered: the noise of single rounds, which is gone a
moment later, would else be taken for a wandering host."""
_PROBABLE = 0.6745
"""Half of all normal errors are smaller than this times their standard deviation."""
_REGIMES: Mapping[Phase, Regime] = {"prefill": "prompt", "decode": "token"}

Series = tuple[str, Phase]
"""Steps of one kind: a node's, in a phase."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Steps that a node made of its stage, in rounds that followed each other."""

    rounds: tuple[tuple[MeasuredStep, ...], ...]
    span_s: float
    """From the beginning of the first to the end of the last one."""
    host: str = ""
    """Nodes of one host make them in the same rounds."""

    @property
    def steps(self) -> list[MeasuredStep]:
        """All of them, in the order of time."""
        return [step for one in self.rounds for step in one]


def kept_share(span_s: float) -> float:
    """Share of the variance of a wandering speed that its mean over a while still has.

    Of a stationary process whose correlation falls by e every ``CORRELATION_S``
    (Ornstein-Uhlenbeck): 2 (x - 1 + exp(-x)) / x^2 with x the time in those. 1 for an instant.
    """
    x = span_s / CORRELATION_S
    return 1.0 if x < 1e-3 else 2 * (x - 1 + math.exp(-x)) / x**2


def lasting_share(span_s: float) -> float:
    """How much of where such a speed is now its mean over the while to come still has.

    (1 - exp(-x)) / x with x as above: 1 for the next instant.
    """
    x = span_s / CORRELATION_S
    return 1.0 if x < 1e-3 else -math.expm1(-x) / x


def weight(
    apart: float, profile_variance: float, seen_variance: float, shared_variance: float = 0.0
) -> float:
    """How much of what a rehearsal found ``apart`` from the profile is to be believed: 0 to 1.

    The combination of two forecasts with the least variance (Bates and Granger, 1969):
    (profile + shared) / (profile + seen), as long as the two differ by no more than both variances
    explain. ``shared_variance`` is what of the rehearsal's is no error, because the run to come
    has it too. What they differ by beyond that is a host that has changed since it was probed, and
    adds to the variance of the profile (the moment estimator of DerSimonian and Laird, 1986, for
    two), so a profile that is out of date by much is not believed.
    """
    wrong = seen_variance - shared_variance
    return 1 - wrong / max(profile_variance + seen_variance, apart**2) if wrong > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of the steps of a node beforehand."""

    calibration: Calibration
    trust: Trust


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of the steps of the nodes that share a host."""

    rehearsals: Mapping[str, Rehearsal]
    """By node; rounds of the same number were made at the same time."""
    profiles: Mapping[str, Profile]
    ahead_s: float = math.inf
    """How long the run is that follows at once."""

    @cached_property
    def _late(self) -> dict[Series, dict[int, float]]:
        """By node and phase, then by block: how far steps took longer than the profile says."""
        return {
            (node, phase): late
            for node, rehearsal in self.rehearsals.items()
            for phase in _REGIMES
            if (late := _by_block(rehearsal, phase, self.profiles[node].calibration))
        }

    @cached_property
    def _common(self) -> dict[int, float]:
        """By block: how far all steps in it were from what is usual for them, in the mean."""
        apart: dict[int, list[float]] = {}
        for series, late in self._late.items():
            for number, value in late.items():
                apart.setdefault(number, []).append(value - self.seen(series))
        return {number: statistics.fmean(values) for number, values in apart.items()}

    @property
    def all_series(self) -> list[Series]:
        """What steps there were: node and phase."""
        return list(self._late)

    @property
    def span_s(self) -> float:
        """How long the rehearsal took."""
        return max((one.span_s for one in self.rehearsals.values()), default=0.0)

    @cached_property
    def wander(self) -> float | None:
        """Standard deviation of the host's speed from moment to moment; None with one round.

        What all steps of a block have in common differs between blocks; that these follow each
        other closely hides some of how far the speed goes.
        """
        if len(self._common) < 2:
            return None
        hidden = kept_share(self.span_s)
        return math.sqrt(statistics.variance(self._common.values()) / max(1e-3, 1 - hidden))

    @cached_property
    def _noise_variance(self) -> float:
        """Of what one kind of steps did in a block, beside what it had in common with others."""
        left = [
            value - self.seen(series) - self._common[number]
            for series, late in self._late.items()
            for number, value in late.items()
        ]
        free = len(left) - len(self._late) - len(self._common) + 1
        return sum(value**2 for value in left) / free if free > 0 else 0.0

    def seen(self, series: Series) -> float:
        """How far steps of a phase took longer in the rehearsal than the profile says."""
        return statistics.fmean(self._late[series].values())

    def seen_variance(self, series: Series) -> float:
        """Of what was seen: its one host's speed, and its own noise."""
        kept = (self.wander or 0.0) ** 2 * kept_share(self.span_s)
        return kept + self._noise_variance / len(self._late[series])

    @property
    def shared_variance(self) -> float:
        """Of what was seen of the host's speed, what the run to come will see of it, too."""
        shares = lasting_share(self.span_s) * lasting_share(self.ahead_s)
        return (self.wander or 0.0) ** 2 * shares

    def weight(self, series: Series) -> float:
        """How much of what the rehearsal found is believed."""
        node, phase = series
        trust = self.profiles[node].trust
        doubt = deviation(trust.bands.get(_REGIMES[phase], trust.band))
        if doubt is None:
            return 1.0
        return weight(self._apart, doubt**2, self.seen_variance(series), self.shared_variance)

    @cached_property
    def _apart(self) -> float:
        """How far rehearsal and profile are apart: what a host has become, all its steps show."""
        return math.sqrt(statistics.fmean(self.seen(series) ** 2 for series in self._late))

    def steps(self, node: str) -> list[MeasuredStep]:
        """Steps of a node's rehearsal, as long as they are expected to take from now on."""
        usual = self.profiles[node].calibration
        late = {
            phase: math.exp(self.weight((whose, phase)) * self.seen((whose, phase)))
            for whose, phase in self._late
            if whose == node
        }
        return [
            replace(step, seconds=step.predicted_s(usual) * late[step.batch.phase])
            for step in _few(self.rehearsals[node].steps)
        ]


def forecasts(
    problem: Problem, rehearsals: Mapping[str, Rehearsal], ahead_s: float = math.inf
) -> dict[str, Forecast]:
    """By host: what is to be expected of nodes that rehearsed, in the seconds to come."""
    hosts: dict[str, dict[str, Rehearsal]] = {}
    for node, one in rehearsals.items():
        if one.steps:
            hosts.setdefault(one.host, {})[node] = one
    return {
        host: Forecast(mine, {node: _profile(problem, node, mine[node]) for node in mine}, ahead_s)
        for host, mine in hosts.items()
    }


def _profile(problem: Problem, node: str, rehearsal: Rehearsal) -> Profile:
    device, step = problem.cluster.device(node), rehearsal.steps[0]
    trust = problem.engine.trust(device, step.model.id, step.quant.id)
    return Profile(problem.engine.calibration(device), trust)


def deviation(band: ErrorBand | None) -> float | None:
    """Standard deviation of the errors that a band tells of; None without one."""
    return band.median / _PROBABLE if band else None


def unavoidable(wander: float, run_s: float) -> float:
    """Least median error of predictions of runs of so many seconds on a wandering host.

    Of one that knows all about the host until the run begins.
    """
    return _PROBABLE * wander * math.sqrt(kept_share(run_s) - lasting_share(run_s) ** 2)


def _later(steps: Sequence[MeasuredStep], usual: Calibration) -> float:
    """How much longer steps took together than predicted; of several models in the mean."""
    taken_s: dict[str, float] = {}
    said_s: dict[str, float] = {}
    for step in steps:
        taken_s[step.model.id] = taken_s.get(step.model.id, 0.0) + step.seconds
        said_s[step.model.id] = said_s.get(step.model.id, 0.0) + step.predicted_s(usual)
    return statistics.fmean(math.log(taken_s[name] / said_s[name]) for name in taken_s)


def _by_block(rehearsal: Rehearsal, phase: Phase, usual: Calibration) -> dict[int, float]:
    count = len(rehearsal.rounds)
    found: dict[int, list[MeasuredStep]] = {}
    for number, one in enumerate(rehearsal.rounds):
        mine = [step for step in one if step.batch.phase == phase]
        found.setdefault(number * _BLOCKS // max(count, _BLOCKS), []).extend(mine)
    return {block: _later(steps, usual) for block, steps in found.items() if steps}


def _few(steps: Sequence[MeasuredStep]) -> list[MeasuredStep]:
    """Enough of them to stand for all: of each size the first one."""
    kinds = {
        (step.model.id, step.batch.phase, step.batch.sequences, step.batch.new_tokens): step
        for step in reversed(steps)
    }
    return list(kinds.values())
