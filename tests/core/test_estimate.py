from __future__ import annotations

import dataclasses

import pytest

from planner.core.cost import Batch, Chip, stage_time
from planner.core.cost.estimate import Load, estimate
from planner.core.speculation import Speculation
from tests.core.world import problem

PROBLEM = problem()
NODE = PROBLEM.cluster.workers[0]
DEVICE = PROBLEM.cluster.device(NODE.id)
ENGINE = PROBLEM.engine.model_copy(update={"request_s": 0.5, "coordinator_step_s": 0.25})
LOAD = Load(prompt_tokens=40, output_tokens=20, batch=2)


def _estimate(load: Load = LOAD, count: int = 1):  # type: ignore[no-untyped-def]
    return estimate(PROBLEM.model, PROBLEM.quants[0], DEVICE, count, ENGINE, load)


def test_it_is_the_stage_time_of_one_prompt_and_of_a_step_at_mean_context() -> None:
    chip = Chip(DEVICE, ENGINE.calibration(DEVICE))
    layers = PROBLEM.model.num_hidden_layers
    found = _estimate()
    prompt = stage_time(PROBLEM.model, 0, layers, PROBLEM.quants[0], chip, Batch.prefill(40))
    step = stage_time(PROBLEM.model, 0, layers, PROBLEM.quants[0], chip, Batch.decode(2, 2 * 50))
    assert found.ttft_s == pytest.approx(0.75 + prompt.total_s)
    assert found.tpot_s == pytest.approx(0.25 + step.total_s)
    assert found.decode_tokens_per_s == pytest.approx(2 / found.tpot_s)
    assert found.prefill_tokens_per_s == pytest.approx(40 / prompt.total_s)


def test_what_fills_the_cache_just_fits() -> None:
    found = _estimate()
    sequences = found.kv_capacity_tokens // 60
    assert found.fits
    assert _estimate(dataclasses.replace(LOAD, batch=int(sequences * 0.9))).fits
    assert not _estimate(dataclasses.replace(LOAD, batch=sequences + 1)).fits


def test_more_devices_hold_more() -> None:
    assert _estimate(count=2).capacity_bytes == 2 * _estimate().capacity_bytes


def test_drafts_bring_several_tokens_per_step() -> None:
    """One draft of 1 s that is right half the time: 1.5 tokens per step."""
    some = Speculation(draft_tokens=1, acceptance=0.5, draft_token=1.0)
    plain = _estimate()
    found = estimate(PROBLEM.model, PROBLEM.quants[0], DEVICE, 1, ENGINE, LOAD, some)
    assert found.ttft_s == plain.ttft_s
    assert found.tpot_s == pytest.approx((found.decode.total_s + 1.25) / 1.5)
    assert found.decode.total_s > plain.decode.total_s
