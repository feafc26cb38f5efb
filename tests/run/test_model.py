from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.run.config import Rope
from planner.run.model import CacheShape, Stage
from planner.run.rotary import frequencies
from tests.run.world import CACHE, chain, checkpoint, decode, greedy, prefill

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral-window": {"model_type": "mistral", "sliding_window": 8},
    "qwen2-tied": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "head_dim": 32},
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def tokens(count: int, seed: int = 0) -> list[int]:
    return [random.Random(seed + i).randrange(300) for i in range(count)]


@each_family
def test_any_split_gives_the_same_logits(tmp_path: Path, family: str) -> None:
    opened = checkpoint(tmp_path, **FAMILIES[family])
    prompt = tokens(12)
    whole = chain(opened, [])
    wanted = [prefill(whole, prompt), decode(whole, [7], [0], [12])]
    for cuts in ([1], [1, 3], [1, 2, 3]):
        stages = chain(opened, cuts)
        assert torch.equal(prefill(stages, prompt), wanted[0])
        assert torch.equal(decode(stages, [7], [0], [12]), wanted[1])


@each_family
def test_decoding_equals_prefilling_the_longer_prompt(tmp_path: Path, family: str) -> None:
    stages = chain(checkpoint(tmp_path, **FAMILIES[family]), [])
    prompt = tokens(20)
    prefill(stages, prompt[:5])
    for held in range(5, 20):
        logits = decode(stages, [prompt[held]], [0], [held])
    assert torch.allclose(logits, prefill(stages, prompt, slot=1), atol=1e-4)


@pytest.mark.parametrize("quant", ["fp32", "bf16"])
@each_family
def test_a_ragged_batch_equals_its_sequences_alone(tmp_path: Path, family: str, quant: str) -> None:
    stages = chain(checkpoint(tmp_path, **FAMILIES[family]), [2], quant)
    lengths = {3: 2, 0: 17, 2: 9}
    for slot, length in lengths.items():
        prefill(stages, tokens(length, slot), slot)
    together = decode(stages, [5, 6, 7], list(lengths), list(lengths.values()))
    for row, (slot, length) in enumerate(lengths.items()):
        prefill(stages, tokens(length, slot), slot)
        alone = decode(stages, [5 + row], [slot], [length])
        scale = float(alone.abs().max())
        assert torch.allclose(
            together[row], alone[0], atol=scale * (1e-5 if quant == "fp32" else 0.06)
        )


def test_a_batch_writes_greedily_what_each_sequence_writes_alone(tmp_path: Path) -> None:
    stages = chain(checkpoint(tmp_path), [2])
    prompts = [tokens(length, length) for length in (3, 11, 7)]
    wanted = [greedy(stages, prompt, 8, slot) for slot, prompt in enumerate(prompts)]
    rows = [[int(prefill(stages, prompt, slot).argmax())] for slot, prompt in enumerate(prompts)]
    for step in range(7):
        held = [len(prompt) + step for prompt in prompts]
        logits = decode(stages, [row[-1] for row in rows], [0, 1, 2], held)
        for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            row.append(token)
    assert rows == wanted


def test_a_slot_forgets_and_slots_do_not_see_each_other(tmp_path: Path) -> None:
    stages = chain(checkpoint(tmp_path), [])
    fresh = greedy(stages, tokens(6), 5, slot=1)
    greedy(stages, tokens(40, seed=9), 20, slot=1)
    greedy(stages, tokens(30, seed=5), 20, slot=2)
    assert greedy(stages, tokens(6), 5, slot=1) == fresh


def test_a_window_hides_what_lies_before_it(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path, model_type="mistral", sliding_window=4, num_hidden_layers=1)
    stages = chain(opened, [])
    same_end = tokens(4, seed=3)
    far, near = [1, 2, *same_end], [8, 9, *same_end]
    assert torch.allclose(prefill(stages, far, 0), prefill(stages, near, 1), atol=1e-5)
    token = same_end[-1]
    assert torch.allclose(
        decode(stages, [token], [0], [6]), decode(stages, [token], [1], [6]), atol=1e-5
    )
    wide = chain(checkpoint(tmp_path / "wide", model_type="mistral", num_hidden_layers=1), [])
    assert not torch.allclose(prefill(wide, far, 0), prefill(wide, near, 1), atol=1e-3)


def test_narrow_formats_take_less_memory(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path, hidden_size=128, intermediate_size=512)
    stages = {quant: chain(opened, [], quant)[0] for quant in ("fp32", "bf16", "int8")}
    matrices = 4 * (128 * (128 + 2 * 64) + 128 * 128 + 3 * 128 * 512)
    ends = 2 * 300 * 128
    assert stages["fp32"].weight_bytes == 4 * (matrices + ends)
    assert stages["bf16"].weight_bytes == 2 * (matrices + ends)
    outputs = 4 * (256 + 128 + 2 * 512 + 128)
    assert stages["int8"].weight_bytes == matrices + 2 * ends + 6 * outputs
    assert stages["bf16"].cache_bytes * 2 == stages["fp32"].cache_bytes == 2 * 4 * 4 * 64 * 64 * 4


@pytest.mark.parametrize(("quant", "bound"), [("bf16", 0.02), ("int8", 0.06)])
def test_narrow_formats_stay_near_fp32(tmp_path: Path, quant: str, bound: float) -> None:
    opened = checkpoint(tmp_path, num_hidden_layers=1)
    exact = prefill(chain(opened, []), tokens(16))
    off = prefill(chain(opened, [], quant), tokens(16)).float() - exact
    assert float(off.square().mean().sqrt() / exact.square().mean().sqrt()) < bound


def test_a_tied_head_on_one_stage_takes_no_memory(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path, tie_word_embeddings=True)
    whole = chain(opened, [])[0]
    first, last = chain(opened, [2])
    assert first.weight_bytes + last.weight_bytes - whole.weight_bytes == 300 * 64 * 4


def test_a_stage_reads_only_its_own_layers(tmp_path: Path) -> None:
    opened = checkpoint(tmp_path)
    for name in [name for name in opened.entries if not name.startswith("model.layers.1.")]:
        del opened.entries[name]
    stage = Stage(opened, 1, 2, "fp32", CACHE)
    assert len(stage.layers) == 1
    with pytest.raises(KeyError):
        Stage(opened, 0, 2, "fp32", CacheShape(1, 16))


def test_llama3_scaling_keeps_fast_and_slows_slow_frequencies() -> None:
    plain = frequencies(Rope(theta=500000.0), 64)
    scaled = frequencies(Rope(500000.0, "llama3", 8.0, 1.0, 4.0, 8192), 64)
    assert torch.equal(scaled[:8], plain[:8])
    assert torch.allclose(scaled[-8:], plain[-8:] / 8)
    assert bool((scaled[1:] < scaled[:-1]).all())
    assert torch.equal(frequencies(Rope(500000.0, "linear", 4.0), 64), plain / 4)
