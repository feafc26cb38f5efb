"""A small random model in Hugging Face format, made on the spot: nothing has to be downloaded."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from planner.core.errors import InvalidFileError, RunError
from planner.core.model import ModelSpec
from planner.run.checkpoint import open_checkpoint, shapes_of
from planner.run.config import FAMILIES, ModelConfig, parse_config, read_json

_BYTES = 256
_SPECIAL = ("<|begin|>", "<|end|>")
_ONSETS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_SAME = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "tie_word_embeddings",
    "sliding_window",
    "num_experts",
)
_SHARPENED = ("q_proj", "k_proj", "q_norm", "k_norm")
"""Doubled, or attention is so even that greedy answers soon repeat themselves."""
_RECIPE = 1
"""To be raised whenever the same seed starts to give other weights."""
_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}


def make_checkpoint(directory: Path, model: ModelSpec, seed: int = 0, dtype: str = "bf16") -> Path:
    """``directory``, holding a random model of that shape; kept as it is if it already does.

    Same shape and seed, same weights. The directory appears whole or not at all; a former
    checkpoint of this function is replaced. Raises RunError for a shape the runtime cannot
    execute, or if ``directory`` holds anything else.
    """
    values = _config_values(model, seed, dtype)
    config = parse_config(values, f"model {model.id}")
    if _matches(directory, values):
        return directory
    if not _replaceable(directory):
        raise RunError(
            f"{directory} holds something else than a seeded checkpoint",
            "name another directory, or remove it if it may go",
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    made = work / "made"
    try:
        made.mkdir()
        (made / "config.json").write_text(json.dumps(values, indent=2) + "\n")
        _write_tokenizer(made / "tokenizer.json", config.vocab_size)
        _write_weights(made / "model.safetensors", config, seed, dtype)
        if directory.exists():
            directory.replace(work / "former")
        made.replace(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return directory


def _replaceable(directory: Path) -> bool:
    """Whether nothing is lost: there is nothing, or only what this module once made."""
    if not directory.exists():
        return True
    if not directory.is_dir():
        return False
    names = {path.name for path in directory.iterdir()}
    if names - {"config.json", "tokenizer.json", "model.safetensors"}:
        return False
    try:
        return not names or "planner_seed" in read_json(directory / "config.json")
    except InvalidFileError:
        return False


def _config_values(model: ModelSpec, seed: int, dtype: str) -> dict[str, Any]:
    if model.model_type not in FAMILIES:
        raise RunError(
            f"model {model.id} is of type {model.model_type}, which the bundled runtime lacks",
            f"it executes {', '.join(FAMILIES)}",
        )
    if model.vocab_size < _BYTES + len(_SPECIAL):
        raise RunError(
            f"model {model.id} has {model.vocab_size} tokens, too few for a byte tokenizer",
            f"vocab_size must be {_BYTES + len(_SPECIAL)} at least",
        )
    values = {name: getattr(model, name) for name in _SAME}
    if model.model_type == "mixtral":
        del values["num_experts"]
        values["num_local_experts"] = model.num_experts
        values["intermediate_size"] = model.moe_intermediate_size
        values["num_experts_per_tok"] = model.num_experts_per_tok
    if model.model_type == "qwen3_moe":
        for name in ("num_experts_per_tok", "moe_intermediate_size"):
            values[name] = getattr(model, name)
        values["norm_topk_prob"] = True
        values["decoder_sparse_step"] = model.moe_layer_freq
        values["mlp_only_layers"] = list(model.mlp_only_layers)
    if model.model_type in ("llama", "qwen3", "qwen3_moe"):
        values["attention_bias"] = model.attention_bias
    if model.model_type in ("qwen2", "qwen3", "qwen3_moe"):
        values["use_sliding_window"] = model.sliding_window is not None
    if model.layer_types:
        values["layer_types"] = list(model.layer_types)
    return {
        "architectures": [_CLASSES[model.model_type]],
        **values,
        "head_dim": model.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "bos_token_id": _BYTES,
        "eos_token_id": _BYTES + 1,
        "torch_dtype": {"bf16": "bfloat16", "fp32": "float32"}[dtype],
        "planner_seed": seed,
        "planner_recipe": _RECIPE,
    }


def _matches(directory: Path, values: dict[str, Any]) -> bool:
    """Whether a whole checkpoint with exactly these settings lies there."""
    try:
        present = json.loads((directory / "config.json").read_text())
        open_checkpoint(directory)
    except (OSError, ValueError, InvalidFileError):
        return False
    return bool(present == values)


def _write_tokenizer(path: Path, vocab_size: int) -> None:
    """Every byte is a token, then begin and end; the rest are made-up words, for output only."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    vocabulary |= {name: _BYTES + index for index, name in enumerate(_SPECIAL)}
    syllables = ["".join(pair) for pair in itertools.product(_ONSETS, _VOWELS)]
    lengths = (itertools.product(syllables, repeat=length) for length in itertools.count(2))
    words = ("Ġ" + "".join(word) for word in itertools.chain.from_iterable(lengths))
    for word in itertools.islice(words, vocab_size - len(vocabulary)):
        vocabulary[word] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in _SPECIAL])
    tokenizer.save(str(path))


def _write_weights(path: Path, config: ModelConfig, seed: int, dtype: str) -> None:
    """Normal weights scaled to keep the variance of what passes through them; norms near one."""
    import torch
    from safetensors.torch import save_file

    kept = torch.bfloat16 if dtype == "bf16" else torch.float32
    tensors = {}
    for name, shape in shapes_of(config).items():
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        values = torch.randn(shape, generator=generator)
        if len(shape) == 2:
            values *= shape[1] ** -0.5
        elif name.endswith("bias"):
            values *= 0.1
        else:
            values = 1 + 0.1 * values
        if any(part in name for part in _SHARPENED):
            values *= 2
        tensors[name] = values.to(kept)
    save_file(tensors, str(path), metadata={"format": "pt"})
