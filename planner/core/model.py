"""ModelSpec: a model's shape in Hugging Face config names, and what each layer weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from pydantic import AliasChoices, Field, model_validator

from planner.core.spec import Card
from planner.core.units import Count, Positive

Attention = Literal["full_attention", "sliding_attention", "linear_attention"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one decoder layer holds and does; parameters are counted, not yet quantised."""

    params: int
    """Parameters that every token reads: attention, norms, dense or shared MLP, router."""
    expert_params: int
    """Parameters of one routed expert; 0 in a dense layer."""
    experts: int
    """Routed experts in the layer; 0 in a dense layer."""
    experts_per_token: int
    kv_elements: int
    """KV cache elements that one token adds."""
    kv_window: int | None
    """Tokens kept in the cache; None for all."""
    state_elements: int
    """Elements of a recurrent state per sequence, whatever its length."""
    flops_per_pair: float
    """FLOPs per pair of a query token and a key token: scores and weighted sum."""
    decode_flops_per_pair: float | None = None
    """The same in decode where that is computed differently; as in prompts where None."""
    kv_parts: int = 1
    """Devices that the cache can be divided between: KV heads, or 1 for a shared latent."""
    heads: int = 0
    """Query heads, each with a score for every pair; 0 where attention is linear."""
    width: int = 0
    """Elements of a hidden vector."""

    @property
    def total_params(self) -> int:
        """All parameters the layer stores."""
        return self.params + self.experts * self.expert_params

    @property
    def active_params(self) -> int:
        """Parameters one token is multiplied with."""
        return self.params + self.experts_per_token * self.expert_params

    def distinct_experts(self, tokens: float) -> float:
        """Expected number of routed experts that ``tokens`` tokens touch.

        E (1 - (1 - k/E)^n), independent uniform routing (Switch Transformer, arXiv 2101.03961).
        """
        if not self.experts:
            return 0.0
        untouched: float = (1 - self.experts_per_token / self.experts) ** tokens
        return self.experts * (1 - untouched)


class _AttentionPart(NamedTuple):
    """What attention adds to a layer; fields as those of :class:`Layer`."""

    params: int
    kv_elements: int
    flops_per_pair: float
    decode_flops_per_pair: float | None = None
    kv_parts: int = 1
    state_elements: int = 0
    heads: int = 0


class ModelSpec(Card):
    """A decoder-only transformer; field names are those of its ``config.json``."""

    name: str = ""
    family: str
    """Key into published quality tables, such as ``llama-3``."""
    model_type: str
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    """Width of a head; hidden_size / num_attention_heads where the config has none."""
    intermediate_size: int = Field(ge=0)
    vocab_size: Count
    tie_word_embeddings: bool = False
    max_position_embeddings: Count
    attention_bias: bool = False
    """Biases on the query, key and value projections."""
    mlp_matrices: Literal[2, 3] = 3
    """3 for a gated MLP (gate, up, down), 2 for a plain one."""
    sliding_window: Count | None = None
    layer_types: tuple[Attention, ...] | None = None
    """Kind of attention by layer; all full where it is absent."""
    num_experts: int = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("num_experts", "num_local_experts", "n_routed_experts"),
    )
    num_experts_per_tok: int = Field(default=0, ge=0)
    moe_intermediate_size: int = Field(default=0, ge=0)
    expert_hidden_size: int = Field(default=0, ge=0)
    """Width the routed experts work in; 0 where it is hidden_size."""
    shared_expert_intermediate_size: int = Field(default=0, ge=0)
    """Total width of the experts that every token passes."""
    first_k_dense_replace: int = Field(default=0, ge=0)
    """Leading layers that are dense in a mixture-of-experts model."""
    moe_layer_freq: Count = 1
    """Every so many layers is a mixture, counted from ``first_k_dense_replace``."""
    mlp_only_layers: tuple[int, ...] = ()
    """Further layers that are dense in a mixture-of-experts model."""
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    """Width of the compressed KV latent (multi-head latent attention); None without."""
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    linear_num_key_heads: int = 0
    linear_num_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    attn_output_gate: bool = False
    """The query projection also yields a gate, doubling its width."""
    residual_streams: Count = 1
    """Hidden vectors per token that travel between layers."""
    global_head_dim: Count | None = None
    """Width of a head in the full-attention layers, where sliding ones have another."""
    num_global_key_value_heads: Count | None = None
    """Key/value heads of the full-attention layers, where sliding ones have another number."""
    attention_k_eq_v: bool = False
    """Full-attention layers take keys and values from one projection; both are cached."""
    encoder_params: int = Field(default=0, ge=0)
    """Vision or audio encoder and its projector: held by the first stage, not read for text."""
    published_params: Positive | None = None
    """Parameter total its makers state."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.layer_types is not None and len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(self.layer_types)} layers, "
                f"num_hidden_layers says {self.num_hidden_layers}"
            )
        if self.num_experts and not (self.num_experts_per_tok and self.moe_intermediate_size):
            raise ValueError("num_experts needs num_experts_per_tok and moe_intermediate_size")
        if self.num_experts_per_tok > self.num_experts:
            raise ValueError("num_experts_per_tok exceeds num_experts")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads is no multiple of num_key_value_heads")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size is no multiple of num_attention_heads; give head_dim")
        return self

    @property
    def head_width(self) -> int:
        """Elements of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in order; equal layers are the same object."""
        made: dict[tuple[str, bool], Layer] = {}
        result = []
        for index in range(self.num_hidden_layers):
            kind = self.layer_types[index] if self.layer_types else "full_attention"
            key = (kind, self._is_mixture(index))
            if key not in made:
                made[key] = self._layer(*key)
            result.append(made[key])
        return tuple(result)

    @property
    def embedding_params(self) -> int:
        """Parameters of the input embedding and of encoders, held by the first stage."""
        return self.vocab_size * self.hidden_size + self.encoder_params

    @property
    def head_params(self) -> int:
        """Parameters of the output head, read by the last stage at every step."""
        return self.vocab_size * self.hidden_size

    @property
    def total_params(self) -> int:
        """All parameters of the model, each counted once."""
        ends = self.embedding_params + (0 if self.tie_word_embeddings else self.head_params)
        return ends + self.hidden_size + sum(layer.total_params for layer in self.layers)

    def runs(self, start: int, stop: int) -> tuple[tuple[Layer, int], ...]:
        """Distinct layers of a range with how often each occurs, in order of first appearance."""
        found = self._known_runs.get((start, stop))
        if found is None:
            found = self._known_runs[start, stop] = _runs(self.layers[start:stop])
        return found

    @cached_property
    def _known_runs(self) -> dict[tuple[int, int], tuple[tuple[Layer, int], ...]]:
        """What was asked for, and the answer."""
        return {}

    @property
    def active_params(self) -> int:
        """Parameters one token is multiplied with in the layers."""
        return sum(layer.active_params for layer in self.layers)

    def _is_mixture(self, index: int) -> bool:
        dense = index < self.first_k_dense_replace or index in self.mlp_only_layers
        if dense or not self.num_experts:
            return False
        return (index - self.first_k_dense_replace) % self.moe_layer_freq == self.moe_layer_freq - 1

    def _layer(self, kind: str, mixture: bool) -> Layer:
        attention = self._attention(kind)
        params = attention.params + 2 * self.hidden_size
        expert = 0
        if mixture:
            width = self.expert_hidden_size or self.hidden_size
            expert = self.mlp_matrices * width * self.moe_intermediate_size
            params += self.hidden_size * self.num_experts
            params += self.mlp_matrices * self.hidden_size * self.shared_expert_intermediate_size
        else:
            params += self.mlp_matrices * self.hidden_size * self.intermediate_size
        return Layer(
            params=params,
            expert_params=expert,
            experts=self.num_experts if mixture else 0,
            experts_per_token=self.num_experts_per_tok if mixture else 0,
            kv_elements=attention.kv_elements,
            kv_window=self.sliding_window if kind == "sliding_attention" else None,
            state_elements=attention.state_elements,
            flops_per_pair=attention.flops_per_pair,
            decode_flops_per_pair=attention.decode_flops_per_pair,
            kv_parts=attention.kv_parts,
            heads=attention.heads,
            width=self.hidden_size,
        )

    def _attention(self, kind: str) -> _AttentionPart:
        if kind == "linear_attention":
            return self._linear_attention()
        if self.kv_lora_rank is not None:
            return self._latent_attention(self.kv_lora_rank)
        hidden, width, kv_heads = self.hidden_size, self.head_width, self.num_key_value_heads
        shared = False
        if kind == "full_attention":
            width = self.global_head_dim or width
            kv_heads = self.num_global_key_value_heads or kv_heads
            shared = self.attention_k_eq_v
        query = self.num_attention_heads * width
        key_value = 2 * kv_heads * width
        projected = key_value // 2 if shared else key_value
        gate = query if self.attn_output_gate else 0
        params = hidden * (query + gate + projected) + query * hidden
        params += (query + projected) if self.attention_bias else 0
        heads = self.num_attention_heads
        return _AttentionPart(params, key_value, 4.0 * query, kv_parts=kv_heads, heads=heads)

    def _latent_attention(self, rank: int) -> _AttentionPart:
        """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

        In decode the projections from the latent are absorbed into query and output, so that
        every head attends over the latent and the rotary key themselves.
        """
        hidden, heads = self.hidden_size, self.num_attention_heads
        qk_width = self.qk_nope_head_dim + self.qk_rope_head_dim
        if self.q_lora_rank:
            params = hidden * self.q_lora_rank + self.q_lora_rank * heads * qk_width
        else:
            params = hidden * heads * qk_width
        params += hidden * (rank + self.qk_rope_head_dim)
        params += rank * heads * (self.qk_nope_head_dim + self.v_head_dim)
        params += heads * self.v_head_dim * hidden
        return _AttentionPart(
            params,
            rank + self.qk_rope_head_dim,
            2.0 * heads * (qk_width + self.v_head_dim),
            decode_flops_per_pair=2.0 * heads * (2 * rank + self.qk_rope_head_dim),
            heads=heads,
        )

    def _linear_attention(self) -> _AttentionPart:
        """Gated delta rule (Gated DeltaNet, arXiv 2412.06464): a state instead of a cache."""
        hidden = self.hidden_size
        key = self.linear_num_key_heads * self.linear_key_head_dim
        value = self.linear_num_value_heads * self.linear_value_head_dim
        params = hidden * (2 * key + 2 * value + 2 * self.linear_num_value_heads) + value * hidden
        state = self.linear_num_value_heads * self.linear_key_head_dim * self.linear_value_head_dim
        return _AttentionPart(params, 0, 0.0, state_elements=state)


def _runs(layers: Sequence[Layer]) -> tuple[tuple[Layer, int], ...]:
    counts: dict[int, tuple[Layer, int]] = {}
    for layer in layers:
        _, seen = counts.get(id(layer), (layer, 0))
        counts[id(layer)] = (layer, seen + 1)
    return tuple(counts.values())
