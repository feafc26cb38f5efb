"""ModelConfig: what the runtime must know of a checkpoint's ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.errors import FileProblem, InvalidFileError
from planner.core.hfconfig import model_of
from planner.core.model import ModelSpec

FAMILIES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
ROPE_TYPES = ("default", "linear", "llama3")
_UNSUPPORTED = ("quantization_config", "num_experts", "num_local_experts", "kv_lora_rank")


_EXPERT_COUNTS = {
    "mixtral": ("num_experts_per_tok",),
    "qwen3_moe": ("num_experts_per_tok", "moe_intermediate_size"),
}
"""Keys that a family with routed experts needs besides their number."""
_EXPERTS = ("num_local_experts", "num_experts")
"""Spellings of the number of routed experts."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding; the four llama3 fields are used by that kind only."""

    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class Mixture:
    """Routed experts of a layer, and what their tensors are called."""

    experts: int
    per_token: int
    width: int
    """Of the hidden layer of one expert."""
    normed: bool
    """Whether the scores of the chosen experts are scaled to sum to one."""
    prefix: str
    names: tuple[str, str, str]
    """Gate, up and down projection."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder with rotary positions, RMS norms and gated MLPs, dense or routed."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_tokens: int
    rms_norm_eps: float
    rope: Rope
    windows: tuple[int | None, ...]
    """Tokens that each layer attends to; None for all."""
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied: bool
    """The output head is the input embedding."""
    stop_ids: tuple[int, ...]
    """Tokens that end an answer."""
    mixture: Mixture | None = None
    dense: frozenset[int] = frozenset()
    """Layers without routed experts."""

    def mixture_of(self, layer: int) -> Mixture | None:
        """Routed experts of a layer; None where its MLP is dense."""
        return None if layer in self.dense else self.mixture


def read_config(path: Path) -> ModelConfig:
    """The config at ``path``; raises InvalidFileError that names every key in the way."""
    values = read_json(path)
    try:
        return parse_config(values, str(path))
    except (TypeError, ValueError, KeyError) as error:
        problem = FileProblem(str(path), f"is no usable model config: {error!r}")
        raise InvalidFileError([problem]) from None


_CHECKPOINT_HINT = (
    "a checkpoint is a Hugging Face directory with config.json, *.safetensors and tokenizer.json"
)


def read_json(path: Path, hint: str = _CHECKPOINT_HINT) -> dict[str, Any]:
    """The JSON object at ``path``; raises InvalidFileError, with a hint where there is no file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        message = "does not exist" if missing else f"cannot be read: {error.strerror}"
        raise InvalidFileError([FileProblem(str(path), message)], hint if missing else "") from None
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        message = f"is no JSON: {getattr(error, 'msg', error)}"
        raise InvalidFileError([FileProblem(str(path), message, "", line, column)]) from None
    if not isinstance(values, dict):
        raise InvalidFileError([FileProblem(str(path), "must be a JSON object")])
    return values


def parse_config(values: Mapping[str, Any], file: str) -> ModelConfig:
    """The config in ``values``; raises InvalidFileError, naming ``file``."""
    family = values.get("model_type")
    if family not in FAMILIES:
        problem = FileProblem(file, f"{family!r} is not supported", "model_type")
        raise InvalidFileError([problem], f"the runtime knows {', '.join(FAMILIES)}")
    problems = [FileProblem(file, message, key) for key, message in _faults(values)]
    if problems:
        raise InvalidFileError(problems)
    model, stop = model_of(values, file), values.get("eos_token_id")
    return ModelConfig(
        model_type=family,
        vocab_size=model.vocab_size,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        layers=model.num_hidden_layers,
        heads=model.num_attention_heads,
        kv_heads=model.num_key_value_heads,
        head_dim=model.head_width,
        max_tokens=model.max_position_embeddings,
        rms_norm_eps=float(values.get("rms_norm_eps", 1e-6)),
        rope=_rope(values),
        windows=tuple(layer.kv_window for layer in model.layers),
        qkv_bias=model.attention_bias,
        out_bias=model.attention_bias and family != "qwen2",
        mlp_bias=family == "llama" and bool(values.get("mlp_bias", False)),
        qk_norm=family in ("qwen3", "qwen3_moe"),
        tied=model.tie_word_embeddings,
        stop_ids=tuple(stop) if isinstance(stop, list) else () if stop is None else (int(stop),),
        mixture=_mixture(values, model),
        dense=frozenset(at for at, layer in enumerate(model.layers) if not layer.experts),
    )


def _faults(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of ``values`` the runtime cannot honour, each with what is wrong."""
    counts = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
    counts += ["num_attention_heads", "max_position_embeddings"]
    if values["model_type"] != "llama":
        counts.append("num_key_value_heads")
    counts += _EXPERT_COUNTS.get(values["model_type"], ())
    faults = [
        (key, f"must be a whole number above zero, not {values.get(key)!r}")
        for key in counts
        if not _is_count(values.get(key))
    ]
    if values["model_type"] in _EXPERT_COUNTS and not _is_count(_experts(values)):
        faults.append((_EXPERTS[0], "must be a whole number above zero"))
    if faults:
        return faults
    faults += [
        (key, "belongs to a feature the runtime does not have")
        for key in _UNSUPPORTED
        if values.get(key) and not (key in _EXPERTS and values["model_type"] in _EXPERT_COUNTS)
    ]
    if values.get("hidden_act", "silu") != "silu":
        faults.append(("hidden_act", f"must be silu, not {values['hidden_act']!r}"))
    heads, kv_heads = values["num_attention_heads"], values.get("num_key_value_heads")
    if kv_heads and heads % kv_heads:
        faults.append(("num_key_value_heads", f"{kv_heads} does not divide {heads} heads"))
    window = values.get("sliding_window")
    if window is not None and (values["model_type"] == "llama" or not _is_count(window)):
        faults.append(("sliding_window", f"{window!r} means nothing for {values['model_type']}"))
    kinds: list[str] = values.get("layer_types") or []
    for kind in sorted(set(kinds) - {"full_attention", "sliding_attention"}):
        faults.append(("layer_types", f"{kind!r} is not supported"))
    if kinds and len(kinds) != values["num_hidden_layers"]:
        faults.append(("layer_types", f"names {len(kinds)} layers of num_hidden_layers"))
    return faults + _rope_faults(values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _rope_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in the newer spelling, ``rope_parameters``, whichever the file has."""
    found = {"rope_theta": values.get("rope_theta", 10000.0)}
    return found | (values.get("rope_scaling") or {}) | (values.get("rope_parameters") or {})


def _rope_faults(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rope = _rope_values(values)
    key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ROPE_TYPES:
        return [(key, f"rope_type {kind!r} is not supported; known: {', '.join(ROPE_TYPES)}")]
    needed = {"linear": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
    faults = [(key, f"lacks {name}") for name in needed.get(kind, ()) if name not in rope]
    if rope.get("partial_rotary_factor", values.get("partial_rotary_factor", 1.0)) != 1.0:
        faults.append(("partial_rotary_factor", "must be 1"))
    return faults


def _rope(values: Mapping[str, Any]) -> Rope:
    rope = _rope_values(values)
    return Rope(
        theta=float(rope["rope_theta"]),
        kind=rope.get("rope_type", rope.get("type", "default")),
        factor=float(rope.get("factor", 1.0)),
        low_freq_factor=float(rope.get("low_freq_factor", 1.0)),
        high_freq_factor=float(rope.get("high_freq_factor", 4.0)),
        original_tokens=int(
            rope.get("original_max_position_embeddings", values["max_position_embeddings"])
        ),
    )


def _experts(values: Mapping[str, Any]) -> Any:
    """Routed experts of a layer, however a file spells that."""
    return next((values[key] for key in _EXPERTS if values.get(key)), None)


def _mixture(values: Mapping[str, Any], model: ModelSpec) -> Mixture | None:
    counts = model.num_experts, model.num_experts_per_tok, model.moe_intermediate_size
    if model.model_type == "mixtral":
        return Mixture(*counts, True, "block_sparse_moe.", ("w1", "w3", "w2"))
    if model.model_type == "qwen3_moe":
        normed = bool(values.get("norm_topk_prob", False))
        return Mixture(*counts, normed, "mlp.", ("gate_proj", "up_proj", "down_proj"))
    return None
