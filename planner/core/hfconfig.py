"""What a Hugging Face ``config.json`` says of a model, and what it leaves to its family.

Planner and runtime read configs by these rules alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from planner.core.errors import FileProblem, InvalidFileError
from planner.core.model import ModelSpec

_REQUIRED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)
_MOST_LAYERS = 10_000
_AS_OF = datetime.date(1970, 1, 1)
"""A copied file gets a new date, which must not make a manifest stale; so none is taken."""


def model_of(
    values: Mapping[str, Any], file: str, id: str = "model", source: str = "config.json"
) -> ModelSpec:
    """The model that the content of a ``config.json`` describes.

    Raises InvalidFileError, naming ``file``, for values that make no sense and for an architecture
    whose parameters planner does not know how to count.
    """
    family = values.get("model_type")
    if family not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        problem = FileProblem(file, f"{family!r} is no architecture known here", "model_type")
        hint = f"known are {known}; for another one write a model card in YAML"
        raise InvalidFileError([problem], hint)
    odd = [key for key in _REQUIRED if not _is_count(values.get(key))]
    if odd:
        message = "must be a whole number above zero"
        raise InvalidFileError([FileProblem(file, message, key) for key in odd])
    if values["num_hidden_layers"] > _MOST_LAYERS:
        message = f"has more than {_MOST_LAYERS} layers"
        raise InvalidFileError([FileProblem(file, message, "num_hidden_layers")])
    try:
        fields = _common(values) | _FAMILIES[family](values)
        return ModelSpec(
            id=id, family=family, model_type=family, source=source, as_of=_AS_OF, **fields
        )
    except ValidationError as error:
        problems = [
            FileProblem(file, one["msg"].removeprefix("Value error, "), _key(one["loc"]))
            for one in error.errors(include_url=False)
        ]
        raise InvalidFileError(problems) from None
    except (TypeError, ValueError, KeyError) as error:
        message = f"is no usable model config: {type(error).__name__} {error}"
        raise InvalidFileError([FileProblem(file, message)]) from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _key(location: tuple[int | str, ...]) -> str:
    return str(location[0]) if location else ""


def _common(values: Mapping[str, Any]) -> dict[str, Any]:
    """What all architectures spell alike."""
    heads = values["num_attention_heads"]
    return {key: values[key] for key in _REQUIRED} | {
        "num_key_value_heads": values.get("num_key_value_heads") or heads,
        "head_dim": values.get("head_dim"),
        "tie_word_embeddings": values.get("tie_word_embeddings", False),
        "max_position_embeddings": values.get("max_position_embeddings", 2048),
        "attention_bias": values.get("attention_bias", False),
    }


def _windowed(values: Mapping[str, Any], kinds: list[str] | None) -> dict[str, Any]:
    """Sliding attention in the layers the config names, or else in those of ``kinds``."""
    window = values.get("sliding_window")
    named = values.get("layer_types") or kinds
    if not window or not named or "sliding_attention" not in named:
        return {}
    return {"sliding_window": window, "layer_types": tuple(named)}


def _every(values: Mapping[str, Any], period: int) -> list[str]:
    """Full attention in every ``period``-th layer, sliding attention in the others."""
    return [
        "full_attention" if (index + 1) % period == 0 else "sliding_attention"
        for index in range(int(values["num_hidden_layers"]))
    ]


def _dense(_: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _all_sliding(values: Mapping[str, Any]) -> dict[str, Any]:
    return _windowed(values, ["sliding_attention"] * int(values["num_hidden_layers"]))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"attention_bias": False} | _all_sliding(values)


def _mistral(values: Mapping[str, Any]) -> dict[str, Any]:
    return _plain({"sliding_window": 4096, **values})


def _smollm3(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"tie_word_embeddings": values.get("tie_word_embeddings", True)} | _qwen(values)


def _qwen(values: Mapping[str, Any]) -> dict[str, Any]:
    if not values.get("use_sliding_window"):
        return {}
    layers, full = int(values["num_hidden_layers"]), int(values.get("max_window_layers", 28))
    kinds = ["full_attention"] * min(full, layers) + ["sliding_attention"] * (layers - full)
    return _windowed({"sliding_window": 4096, **values}, kinds)


def _qwen2(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"attention_bias": True} | _qwen(values)


def _qwen3(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"head_dim": values.get("head_dim") or 128} | _qwen(values)


def _gemma(period: int) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def fields(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "head_dim": values.get("head_dim") or 256,
            "tie_word_embeddings": values.get("tie_word_embeddings", True),
        } | (_windowed(values, _every(values, period)) if period else {})

    return fields


def _experts(values: Mapping[str, Any]) -> Any:
    """Routed experts of a layer, in either spelling."""
    return values.get("num_local_experts") or values["num_experts"]


def _mixtral(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_experts": _experts(values),
        "num_experts_per_tok": values["num_experts_per_tok"],
        "moe_intermediate_size": values["intermediate_size"],
    } | _plain(values)


def _qwen3_moe(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "num_experts": _experts(values),
        "num_experts_per_tok": values["num_experts_per_tok"],
        "moe_intermediate_size": values["moe_intermediate_size"],
        "moe_layer_freq": values.get("decoder_sparse_step", 1),
        "mlp_only_layers": values.get("mlp_only_layers") or (),
    } | _qwen(values)


def _deepseek(values: Mapping[str, Any]) -> dict[str, Any]:
    expert = values["moe_intermediate_size"]
    return {
        "head_dim": None,
        "num_experts": values["n_routed_experts"],
        "num_experts_per_tok": values["num_experts_per_tok"],
        "moe_intermediate_size": expert,
        "shared_expert_intermediate_size": expert * (values.get("n_shared_experts") or 0),
        "first_k_dense_replace": values.get("first_k_dense_replace", 0),
        "moe_layer_freq": values.get("moe_layer_freq", 1),
        "q_lora_rank": values.get("q_lora_rank"),
        "kv_lora_rank": values["kv_lora_rank"],
        "qk_nope_head_dim": values["qk_nope_head_dim"],
        "qk_rope_head_dim": values["qk_rope_head_dim"],
        "v_head_dim": values["v_head_dim"],
    }


def _gpt_oss(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "head_dim": values.get("head_dim") or 64,
        "attention_bias": True,
        "num_experts": values["num_local_experts"],
        "num_experts_per_tok": values["num_experts_per_tok"],
        "moe_intermediate_size": values["intermediate_size"],
    } | _windowed(values, _every(values, 2))


_FAMILIES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "llama": _dense,
    "granite": _dense,
    "olmo2": _dense,
    "smollm3": _smollm3,
    "mistral": _mistral,
    "phi3": _plain,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma(0),
    "gemma2": _gemma(2),
    "gemma3_text": _gemma(6),
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "gpt_oss": _gpt_oss,
}
"""What each ``model_type`` adds to the common fields."""
