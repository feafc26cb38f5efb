"""Shape: whether a checkpoint is the model that was planned for."""

from __future__ import annotations

from planner.core.errors import RunError
from planner.core.model import ModelSpec
from planner.run.config import ModelConfig


def same_shape(model: ModelSpec, config: ModelConfig, hint: str) -> None:
    """Raises RunError unless a checkpoint has the shape that was planned for."""
    pairs = {
        "num_hidden_layers": (model.num_hidden_layers, config.layers),
        "hidden_size": (model.hidden_size, config.hidden_size),
        "intermediate_size": (model.intermediate_size, config.intermediate_size),
        "num_attention_heads": (model.num_attention_heads, config.heads),
        "num_key_value_heads": (model.num_key_value_heads, config.kv_heads),
        "head_dim": (model.head_width, config.head_dim),
        "vocab_size": (model.vocab_size, config.vocab_size),
    }
    differing = [
        f"{k} is {found}, not {planned}"
        for k, (planned, found) in pairs.items()
        if found != planned
    ]
    if differing:
        raise RunError(
            f"the checkpoint is no {model.id}: {'; '.join(differing)}",
            hint,
        )
