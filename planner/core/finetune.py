"""FineTune: low-rank adapters that are trained over a pipeline whose weights stay as they are."""

from __future__ import annotations

from planner.core.model import ModelSpec
from planner.core.spec import Spec
from planner.core.units import Count

OPTIMISER_BYTES = 16.0
"""Bytes of one trained parameter: bf16 weight and gradient, fp32 copy, and Adam's two fp32 moments
(Rajbhandari et al., ZeRO, SC 2020, section 3.1)."""

KEPT = 17.0
"""How many hidden states a layer keeps for the way back where nothing is computed again: 34 bytes
for each number of a hidden state, attention scores not counted (Korthikanti et al., MLSys 2023)."""

GRADIENT_BITS = 16
"""Gradients of hidden states are sent back in bf16, whatever the scheme sends forward."""


class FineTune(Spec):
    """What is trained, and how it is cut into steps (Hu et al., LoRA, ICLR 2022)."""

    rank: Count = 16
    sequence_tokens: Count = 2048
    """Tokens of a training sequence; a micro-batch is one of them."""
    micro_batches: Count = 4
    """Sequences of a step, which follow each other through the pipeline."""
    steps: Count = 1000
    recompute: bool = True
    """Whether only inputs of layers are kept, and the rest is computed again on the way back."""

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.sequence_tokens * self.micro_batches


def adapter_params(model: ModelSpec, rank: int) -> int:
    """Trained parameters of one layer: rank x (in + out) for each matrix that has an adapter.

    These are the attention projections, and the feed-forward part where it is dense; experts get
    none.
    """
    hidden, width = model.hidden_size, model.head_width
    queries = model.num_attention_heads * width
    keys = model.num_key_value_heads * width
    sides = 2 * (hidden + queries) + 2 * (hidden + keys)
    if not model.num_experts:
        sides += model.mlp_matrices * (hidden + model.intermediate_size)
    return rank * sides
