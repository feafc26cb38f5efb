from __future__ import annotations

import dataclasses

import pytest

from planner.core.cost import Batch, Chip, stage_time
from planner.core.cost.estimate import Load, estimate
from planner.core.speculation import Speculation
from tests.core.world import model, problem

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
    found = _estimate(dataclasses.replace(LOAD, batch=1))
    prompt = stage_time(PROBLEM.model, 0, layers, PROBLEM.quants[0], chip, Batch.prefill(40))
    step = stage_time(PROBLEM.model, 0, layers, PROBLEM.quants[0], chip, Batch.decode(1, 50))
    assert found.ttft_s == pytest.approx(0.75 + prompt.total_s)
    assert found.tpot_s == pytest.approx(0.25 + step.total_s)
    assert found.decode_tokens_per_s == pytest.approx(1 / found.tpot_s)
    assert found.prefill_tokens_per_s == pytest.approx(40 / prompt.total_s)


@pytest.mark.parametrize("users", [2, 5, 40])
def test_users_share_the_node_and_its_time_adds_up(users: int) -> None:
    """Every round serves each user's prompt and decodes everybody's tokens, one after the other."""
    found = _estimate(dataclasses.replace(LOAD, batch=users))
    alone = _estimate(dataclasses.replace(LOAD, batch=users - 1))
    later = LOAD.output_tokens - 1
    round_s = found.request_s + users * found.prompt_s + later * found.step_s
    assert found.ttft_s + later * found.tpot_s == pytest.approx(round_s)
    assert found.tpot_s == pytest.approx(found.step_s + found.between_s)
    assert found.ttft_s > alone.ttft_s
    assert found.tpot_s > alone.tpot_s
    assert found.decode_tokens_per_s == pytest.approx(users / found.step_s)


def test_a_prompt_behind_a_cached_one_attends_to_it() -> None:
    behind = _estimate(dataclasses.replace(LOAD, cached_tokens=500))
    assert behind.prefill.total_s > _estimate().prefill.total_s
    assert behind.memory.kv_bytes > _estimate().memory.kv_bytes


def test_memory_set_aside_for_the_cache_is_its_limit() -> None:
    model, quant = PROBLEM.model, PROBLEM.quants[0]
    free = _estimate()
    tight = estimate(model, quant, DEVICE, 1, ENGINE, LOAD, kv_bytes=free.memory.kv_bytes / 2)
    assert free.fits
    assert not tight.fits
    assert tight.kv_capacity_tokens == pytest.approx(LOAD.held_tokens * LOAD.batch / 2, rel=0.02)


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
    assert found.prompt_s == plain.prompt_s
    assert found.step_s == pytest.approx(found.decode.total_s + 1.25)
    assert found.decode_tokens_per_s == pytest.approx(LOAD.batch * 1.5 / found.step_s)
    assert found.decode.total_s > plain.decode.total_s


def test_a_newcomer_waits_for_tokens_of_others_and_the_first_wave_for_prompts() -> None:
    """Of the platform where its calibration says so, of the engine otherwise."""

    def first_s(engine_steps: float, own_steps: float | None, wave: float) -> float:
        calibrations = tuple(
            entry.model_copy(update={"admission_steps": own_steps}) for entry in ENGINE.calibrations
        )
        changes = {
            "admission_steps": engine_steps,
            "first_wave": wave,
            "calibrations": calibrations,
        }
        changed = ENGINE.model_copy(update=changes)
        load = dataclasses.replace(LOAD, batch=5)
        return estimate(PROBLEM.model, PROBLEM.quants[0], DEVICE, 1, changed, load).ttft_s

    found = _estimate(dataclasses.replace(LOAD, batch=5))
    round_s = found.request_s + found.decode_s + 5 * found.prompt_s
    gap_s = (round_s - found.request_s - found.prompt_s) / (LOAD.output_tokens - 1)
    base_s = first_s(0, None, 0)
    assert first_s(7, None, 0) - base_s == pytest.approx(7 * gap_s)
    assert first_s(7, 30, 0) - base_s == pytest.approx(30 * gap_s)
    assert first_s(0, None, 0.1) - base_s == pytest.approx(0.1 * 4 / 2 * found.prompt_s)


def test_layers_with_routed_experts_take_their_overhead_more() -> None:
    slow = ENGINE.calibrations[0].model_copy(update={"expert_overhead_s": 1.0})
    changed = ENGINE.model_copy(update={"calibrations": (slow,)})
    sparse = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    for spec, more_s in ((model(), 0.0), (model(first_k_dense_replace=1, **sparse), 3.0)):
        quick, late = (
            estimate(spec, PROBLEM.quants[0], DEVICE, 1, one, LOAD).decode.total_s
            for one in (ENGINE, changed)
        )
        assert late - quick == pytest.approx(more_s)
