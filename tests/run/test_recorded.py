"""Recorded decode steps compute what a stage does; what captures them on a GPU is left out here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from planner.run import contest, model
from planner.run.contest import settled
from planner.run.linear import Kernels
from planner.run.model import CacheShape, Stage
from planner.run.recorded import ROWS, Recorded, Step, record
from tests.run.world import checkpoint

CACHE = CacheShape(slots=5, slot_tokens=300)


def again(step: Step) -> Step:
    """Stands for a graph: the same operations on the same memory."""
    return step


def stage(folder: Path, start: int = 0, **changes: object) -> Stage:
    return Stage(checkpoint(folder, **changes), start, 4, "fp32", CACHE)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral"])
@pytest.mark.parametrize("start", [0, 2], ids=["tokens", "hidden states"])
@torch.inference_mode()
def test_a_recorded_step_is_the_stages_own(tmp_path: Path, family: str, start: int) -> None:
    window = {"sliding_window": 40} if family == "mistral" else {}
    of = stage(tmp_path, start, model_type=family, **window)
    recorded = record(of, again)
    assert recorded is not None
    assert recorded.reaches == (256, 300)
    generator = torch.Generator().manual_seed(1)
    for spans in (
        [(3, 7, 1)],
        [(0, 0, 1), (4, 290, 1), (2, 39, 1)],
        [(slot, 50 * slot + 9, 1) for slot in range(5)],
    ):
        tokens = torch.randint(300, (len(spans),), generator=generator, dtype=torch.int32)
        x = torch.randn(len(spans), 64, generator=generator) if start else tokens
        expected = of.hidden(x, spans)
        kept = [layer.keys.clone() for layer in of.layers]
        for layer in of.layers:
            for slot, at, _ in spans:
                layer.keys[slot, :, at] = 0
        found = recorded.step(x, spans)
        assert found is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for layer, keys in zip(of.layers, kept, strict=True):
            torch.testing.assert_close(layer.keys, keys, rtol=1e-4, atol=1e-5)


def test_what_is_no_recorded_step_is_left_to_the_stage(tmp_path: Path) -> None:
    recorded = record(stage(tmp_path), again)
    assert recorded is not None
    assert recorded.step(torch.zeros(3, dtype=torch.int32), [(0, 0, 2), (1, 0, 1)]) is None
    many = [(0, at, 1) for at in range(ROWS[-1] + 1)]
    assert recorded.step(torch.zeros(len(many), dtype=torch.int32), many) is None


def test_experts_a_failure_and_a_wrong_result_leave_a_stage_as_it_was(tmp_path: Path) -> None:
    def fails(step: Step) -> Step:
        raise RuntimeError("operation not permitted when stream is capturing")

    def wrong(step: Step) -> Step:
        return lambda: step() + 1

    assert record(stage(tmp_path / "dense"), fails) is None
    assert record(stage(tmp_path / "wrong"), wrong) is None
    experts = {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2}
    experts |= {"moe_intermediate_size": 32}
    assert record(stage(tmp_path / "experts", **experts), again) is None


@pytest.mark.parametrize(("gain", "stays"), [(1.5, True), (1.0, False)])
def test_recordings_stay_where_they_are_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, stays: bool
) -> None:
    def on_a_gpu(of: Stage) -> Recorded | None:
        return record(of, again)

    opened = checkpoint(tmp_path)

    def make(chosen: Kernels) -> Stage:
        made = Stage(opened, 0, 4, "bf16", CACHE, kernels=chosen)
        made.row, made.recorded = None, on_a_gpu(made) if chosen.compiled else None
        return made

    monkeypatch.setattr(model, "row_of", lambda *_: None)
    monkeypatch.setattr(contest, "_row_s", lambda one: 1.0 / gain if one.quick else 1.0)
    made = settled(make, Kernels())
    assert (made.recorded is not None, made.kernels.compiled) == (stays, stays)
