"""The runtime against ``transformers``: same checkpoint, same greedy tokens in fp32."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from planner.run.checkpoint import Checkpoint, open_checkpoint
from planner.run.model import CacheShape, Span, Stage
from planner.run.seeded import make_checkpoint
from tests.run.world import chain, greedy, prefill, spec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama3-biased": (
        "Llama",
        {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-linear-tied": (
        "Llama",
        {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 32}),
    "mistral-window": ("Mistral", {"sliding_window": 8, "head_dim": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen2-window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 2},
    ),
    "qwen3": ("Qwen3", {"head_dim": 32}),
    "mixtral": ("Mixtral", {"num_local_experts": 8, "num_experts_per_tok": 2}),
    "qwen3-moe": (
        "Qwen3Moe",
        {
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 48,
            "norm_topk_prob": True,
            "mlp_only_layers": [1],
        },
    ),
    "qwen3-moe-raw-scores": (
        "Qwen3Moe",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "norm_topk_prob": False,
            "head_dim": 16,
            "decoder_sparse_step": 2,
        },
    ),
}
PROMPTS = [[random.Random(count + i).randrange(300) for i in range(count)] for count in (1, 6, 21)]
NEW = 20


def saved(folder: Path, case: str) -> tuple[Any, Checkpoint]:
    """A random model of ``transformers`` and the same weights as a checkpoint of ours."""
    import transformers

    family, changes = CASES[case]
    config = getattr(transformers, f"{family}Config")(**(SHAPE | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2)
            else:
                parameter.normal_(1, 0.1)
            if any(part in name for part in ("q_proj", "k_proj", "q_norm", "k_norm")):
                parameter.mul_(2)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return model, open_checkpoint(folder)


def reference(model: Any, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens of ``transformers``, and its logits after the prompt."""
    made = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    return made.sequences[0, len(prompt) :].tolist(), made.logits[0]


@pytest.mark.parametrize("case", CASES)
def test_greedy_tokens_equal_those_of_transformers_however_split(tmp_path: Path, case: str) -> None:
    model, opened = saved(tmp_path, case)
    wanted = [reference(model, prompt) for prompt in PROMPTS]
    written = {token for tokens, _ in wanted for token in tokens}
    assert len(written) > 20, "a model that repeats itself proves nothing"
    for cuts in ([], [2], [1, 3], [1, 2, 3]):
        stages = chain(opened, cuts)
        for prompt, (tokens, logits) in zip(PROMPTS, wanted, strict=True):
            assert torch.allclose(prefill(stages, prompt), logits, atol=1e-5)
            assert greedy(stages, prompt, NEW) == tokens


@pytest.mark.parametrize("case", ["llama", "mistral-window", "qwen2", "qwen3", "qwen3-moe"])
def test_chunked_prefill_and_a_batch_of_eight_write_the_same(tmp_path: Path, case: str) -> None:
    model, opened = saved(tmp_path, case)
    prompts = [[random.Random(i).randrange(300) for i in range(n, n + 5 + n)] for n in range(8)]
    wanted = [reference(model, prompt)[0] for prompt in prompts]
    cache = CacheShape(8, 64)
    ends = [0, 1, 3, 4]
    stages = [Stage(opened, start, stop, "fp32", cache) for start, stop in pairwise(ends)]
    answers = []
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), 4):
            chunk = prompt[start : start + 4]
            logits = passed(stages, chunk, [(slot, start, len(chunk))])
        answers.append([int(logits[-1].argmax())])
    for step in range(NEW - 1):
        spans = [(slot, len(prompts[slot]) + step, 1) for slot in range(8)]
        logits = passed(stages, [answer[-1] for answer in answers], spans)
        for answer, token in zip(answers, logits.argmax(-1).tolist(), strict=True):
            answer.append(token)
    assert answers == wanted


def passed(stages: list[Stage], tokens: list[int], spans: list[Span]) -> torch.Tensor:
    """Logits [rows, vocabulary] of tokens that went through all stages."""
    x = torch.tensor(tokens)
    for stage in stages:
        x = stage.hidden(x, spans)
    return stages[-1].logits(x)


def test_transformers_loads_a_seeded_checkpoint_and_agrees(tmp_path: Path) -> None:
    import transformers

    path = make_checkpoint(tmp_path / "m", spec(), dtype="fp32")
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    opened = open_checkpoint(path)
    assert tokenizer("Hello, wörld")["input_ids"] == opened.tokenizer().encode("Hello, wörld").ids
    for prompt in PROMPTS:
        assert greedy(chain(opened, [2]), prompt, NEW) == reference(model, prompt)[0]
