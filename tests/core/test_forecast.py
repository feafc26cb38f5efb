"""Forecasts from profiles and rehearsals, on hosts whose speed wanders as that of shared ones."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

import pytest

from planner.core.cost.batch import Batch, Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.drift import Speeds, as_found
from planner.core.forecast import (
    CORRELATION_S,
    Forecast,
    Profile,
    Rehearsal,
    forecasts,
    kept_share,
    lasting_share,
    unavoidable,
    weight,
)
from planner.core.problem import Problem
from planner.core.trust import ErrorBand, Trust
from tests.core.test_drift import THEN, seconds, world

SPAN_S, RUN_S, ROUNDS, TICK_S = 2.5, 6.0, 6, 0.05
BAND = ErrorBand(median=0.08, p90=0.2, source="made up for tests")
BATCHES: dict[Phase, Batch] = {"prefill": Batch.prefill(64), "decode": Batch.decode(4, 256)}


def wandering(rng: random.Random, span_s: float, deviation: float) -> list[float]:
    """A stationary Ornstein-Uhlenbeck process, tick by tick."""
    kept, at, found = math.exp(-TICK_S / CORRELATION_S), rng.gauss(0, deviation), []
    for _ in range(round(span_s / TICK_S)):
        found.append(at)
        at = kept * at + deviation * math.sqrt(1 - kept**2) * rng.gauss(0, 1)
    return found


def rehearsal(base: Problem, node: str, late: Sequence[float], span_s: float) -> Rehearsal:
    """Rounds in which all steps took exp(late) as long as the profile says."""
    card, quant = base.cluster.device(node), base.quants[0]
    rounds = tuple(
        tuple(
            MeasuredStep(card, base.model, 0, 2, quant, batch, taken * seconds(base, node, batch))
            for batch in BATCHES.values()
        )
        for taken in map(math.exp, late)
    )
    return Rehearsal(rounds, span_s)


def forecast(
    base: Problem,
    node: str,
    late: Sequence[float],
    band: ErrorBand | None,
    ahead_s: float = math.inf,
) -> Forecast:
    profile = Profile(base.calibration(node), Trust(2, whole=band))
    return Forecast({node: rehearsal(base, node, late, SPAN_S)}, {node: profile}, ahead_s)


def errors(
    wander: float, stale: float, model_error: float, runs: int = 150
) -> tuple[float, float, float]:
    """Root mean square errors over hosts: of profile, rehearsal and forecast.

    Where hosts have become slower by ``stale`` since they were probed.
    """
    base = world()
    node, rng = base.cluster.workers[0].id, random.Random(7)
    band = ErrorBand(median=0.6745 * model_error, p90=2 * model_error, source="made up")
    found: list[tuple[float, float, float]] = []
    for _ in range(runs):
        path = wandering(rng, SPAN_S + RUN_S, wander)
        ticks, wrong = round(SPAN_S / TICK_S), rng.gauss(0, model_error)
        each = ticks // ROUNDS
        late = [
            statistics.fmean(path[k * each : (k + 1) * each]) + stale - wrong + rng.gauss(0, 0.01)
            for k in range(ROUNDS)
        ]
        truth = statistics.fmean(path[ticks:]) + stale - wrong
        one = forecast(base, node, late, band, RUN_S)
        seen, believed = one.seen((node, "decode")), one.weight((node, "decode"))
        found.append((-truth, seen - truth, believed * seen - truth))
    profile, seen, both = (
        math.sqrt(statistics.fmean(value**2 for value in values))
        for values in zip(*found, strict=True)
    )
    return profile, seen, both


@pytest.mark.parametrize(("wander", "model_error"), [(0.11, 0.06), (0.2, 0.1)])
def test_both_together_are_better_than_either_where_the_host_wanders(
    wander: float, model_error: float
) -> None:
    profile, seen, both = errors(wander, 0.0, model_error)
    assert both < 0.95 * seen
    assert both < 0.95 * profile


def test_the_rehearsal_wins_on_a_quiet_host_and_where_the_profile_is_out_of_date() -> None:
    profile, seen, both = errors(wander=0.01, stale=0.0, model_error=0.12)
    assert both == pytest.approx(seen, rel=0.1)
    assert both < 0.1 * profile
    profile, seen, both = errors(wander=0.11, stale=0.5, model_error=0.12)
    assert both < 1.1 * seen
    assert both < 0.3 * profile


def test_what_a_mean_over_a_while_keeps_of_a_wander_is_that_of_the_process() -> None:
    rng = random.Random(3)
    for span_s in (1.0, 3.0, 12.0):
        means = [statistics.fmean(wandering(rng, span_s, 1.0)) for _ in range(1500)]
        assert statistics.pvariance(means) == pytest.approx(kept_share(span_s), rel=0.1)
    assert kept_share(0.0) == 1.0


def test_the_wander_is_found_though_rounds_follow_each_other() -> None:
    rng, base = random.Random(5), world()
    node, each = base.cluster.workers[0].id, round(SPAN_S / ROUNDS / TICK_S)
    found = []
    for _ in range(150):
        path = wandering(rng, SPAN_S, 0.1)
        late = [statistics.fmean(path[k * each : (k + 1) * each]) for k in range(ROUNDS)]
        found.append((forecast(base, node, late, BAND).wander or 0.0) ** 2)
    assert math.sqrt(statistics.fmean(found)) == pytest.approx(0.1, rel=0.15)


def test_noise_of_single_steps_is_not_taken_for_a_wandering_host() -> None:
    base, rng = world(), random.Random(9)
    nodes = [one.id for one in base.cluster.workers[:2]]
    made = {
        node: rehearsal(base, node, [rng.gauss(0, 0.05) for _ in range(8)], SPAN_S)
        for node in nodes
    }
    together = forecasts(base, made)[""]
    apart = forecasts(base, {node: made[node] for node in nodes[:1]})[""]
    assert set(together.rehearsals) == set(nodes)
    assert together.wander is not None
    assert apart.wander is not None
    assert together.wander < apart.wander


def test_weights() -> None:
    assert weight(0.0, 0.01, 0.01) == 0.5
    assert weight(0.0, 0.01, 0.01, 0.005) == 0.75
    assert weight(0.5, 0.01, 0.01) == pytest.approx(1 - 0.01 / 0.25)
    assert weight(0.3, 0.01, 0.0) == 1.0
    assert weight(0.1, 1.0, 0.01) == pytest.approx(1.0, abs=0.02)


def test_what_nobody_can_predict_is_nothing_at_once_and_little_of_a_long_run() -> None:
    rng = random.Random(4)
    assert unavoidable(0.11, 1e-4) < 1e-3
    assert unavoidable(0.11, 100.0) < 0.5 * unavoidable(0.11, 4.0)
    paths = [wandering(rng, 6.0, 0.1) for _ in range(1500)]
    missed = [statistics.fmean(path) - lasting_share(6.0) * path[0] for path in paths]
    median = statistics.median(map(abs, missed))
    assert median == pytest.approx(unavoidable(0.1, 6.0), rel=0.1)


def test_steps_are_expected_between_profile_and_rehearsal_and_predicted_so() -> None:
    base = world()
    node, other = (one.id for one in base.cluster.workers[:2])
    late = [0.05, 0.25, 0.15]
    doubted = forecast(base, node, late, BAND)
    believed = forecast(base, node, late, None)
    assert 0 < doubted.weight((node, "decode")) < 1
    assert believed.weight((node, "decode")) == 1.0
    for phase, batch in BATCHES.items():
        (step,) = (one for one in believed.steps(node) if one.batch.phase == phase)
        assert step.seconds == pytest.approx(math.exp(0.15) * seconds(base, node, batch))
    after = as_found(base, {node: THEN, other: THEN}, {node: rehearsal(base, node, late, SPAN_S)})
    for batch in BATCHES.values():
        longer = math.exp(0.15) * seconds(base, node, batch)
        assert seconds(after, node, batch) == pytest.approx(longer, rel=0.02)
        assert seconds(after, other, batch) == seconds(base, other, batch)


def test_a_single_round_tells_nothing_of_a_wander_and_is_believed() -> None:
    base = world()
    node = base.cluster.workers[0].id
    one = forecast(base, node, [0.4], BAND)
    assert one.wander is None
    assert one.weight((node, "prefill")) == 1.0
    nothing = Rehearsal(((),), SPAN_S)
    found = {node: Speeds(THEN.memory_bytes_per_s, THEN.flop_per_s, THEN.call_s)}
    assert forecasts(base, {node: nothing}) == {}
    assert as_found(base, found, {node: nothing}) == as_found(base, found)
