"""Memory of a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.core.engine import Engine, Split
from planner.core.model import Layer, ModelSpec
from planner.core.quant import QuantScheme

ACTIVATION_BITS = 16
"""Activations inside a stage are at most this wide in every scheme but fp32."""


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes a stage takes on its node, by use."""

    weights_bytes: float
    kv_bytes: float
    activation_bytes: float
    reserve_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of them."""
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.reserve_bytes


def stage_memory(
    model: ModelSpec,
    start: int,
    stop: int,
    quant: QuantScheme,
    engine: Engine,
    sequences: int,
    tokens_per_sequence: int,
    step_tokens: int,
    count: int = 1,
    split: Split | None = None,
) -> StageMemory:
    """Bytes that layers ``[start, stop)`` need on ``count`` devices to serve ``sequences`` at once.

    The devices share them by ``split``, as the engine does by itself where absent.
    ``tokens_per_sequence`` are the most tokens a sequence may reach; ``step_tokens`` the most
    tokens of one step. Raises nothing: whether it fits is the caller's question.
    """
    runs = model.runs(start, stop)
    weights = sum(
        times * quant.layer_bytes(layer.params, layer.experts * layer.expert_params)
        for layer, times in runs
    )
    if start == 0:
        weights += model.embedding_params * quant.embedding_bits / 8
    last = stop == model.num_hidden_layers
    if last and not (start == 0 and model.tie_word_embeddings):
        weights += model.head_params * quant.head_bits / 8
    sharing = count if (split or engine.split) == "tensor" else 1
    kv = sum(
        times
        * kv_copies(layer, sharing)
        * kv_bytes_per_sequence(layer, quant, engine, tokens_per_sequence)
        for layer, times in runs
    )
    return StageMemory(
        weights_bytes=weights,
        kv_bytes=kv * sequences,
        activation_bytes=_activation_bytes(model, quant, last, sequences, step_tokens),
        reserve_bytes=engine.memory_reserve_bytes * count,
    )


def kv_copies(layer: Layer, sharing: int) -> float:
    """How often the cache of a layer is held by ``sharing`` devices that share it by heads.

    With fewer KV heads than devices some hold the same head; a latent is held by each.
    """
    return sharing / min(sharing, layer.kv_parts)


def kv_bytes_per_sequence(layer: Layer, quant: QuantScheme, engine: Engine, tokens: int) -> float:
    """Cache bytes of one sequence of ``tokens`` tokens in one layer, in whole blocks."""
    kept = tokens if layer.kv_window is None else min(tokens, layer.kv_window)
    blocks = math.ceil(kept / engine.kv_block_tokens)
    elements = blocks * engine.kv_block_tokens * layer.kv_elements + layer.state_elements
    return elements * quant.kv_bits / 8


def _activation_bytes(
    model: ModelSpec, quant: QuantScheme, last: bool, sequences: int, step_tokens: int
) -> float:
    """Widest live tensors of a step: residual, normalised copy, query/key/value, MLP, logits."""
    width_bytes = max(ACTIVATION_BITS, 32 if quant.compute_dtype == "fp32" else 0) / 8
    attention = (model.num_attention_heads + 2 * model.num_key_value_heads) * model.head_width
    mlp = 2 * max(
        model.intermediate_size,
        model.moe_intermediate_size * model.num_experts_per_tok
        + model.shared_expert_intermediate_size,
    )
    live = 2 * model.hidden_size * model.residual_streams + max(attention, mlp)
    logits = sequences * model.vocab_size * 4 if last else 0
    return step_tokens * live * width_bytes + logits
