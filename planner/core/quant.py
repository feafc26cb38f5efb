"""QuantScheme: in how many bits weights, KV cache and activations are held."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.core.device import DType
from planner.core.spec import Card, Spec
from planner.core.units import Count, Fraction, Positive

_WIDE = ("fp32", "tf32", "bf16", "fp16")

WIDE_BITS = 16
"""What a weight takes that is not narrowed."""


class QualityEffect(Spec):
    """What one published measurement says a scheme does to one model family."""

    family: str
    """Model family as in the model profile, such as ``llama-3``."""
    metric: Literal["perplexity_ratio", "task_recovery"]
    """``perplexity_ratio``: quantised over unquantised; ``task_recovery``: share of the score."""
    value: Positive
    model: str = ""
    """Model that was measured."""
    source: str = Field(min_length=1)

    @property
    def retained(self) -> float:
        """Share of the unquantised quality that is kept, 1 at most."""
        kept = 1 / self.value if self.metric == "perplexity_ratio" else self.value
        return min(1.0, kept)


class QuantScheme(Card):
    """How numbers are stored, sent and computed, and what that costs in quality."""

    name: str
    weight_bits: Positive
    """Bits per weight of a layer, scales and zero points included."""
    beside_experts_bits: Positive | None = None
    """Bits per weight of attention, router and shared MLP in a layer with routed experts, where
    only the experts are narrow; ``weight_bits`` where absent."""
    embedding_bits: Positive = 16
    """Bits per weight of the input embedding."""
    head_bits: Positive = 16
    """Bits per weight of the output head."""
    kv_bits: Positive = 16
    """Bits per element of the KV cache."""
    wire_bits: Positive = 16
    """Bits per element of an activation that travels to the next stage."""
    compute_dtype: DType = "bf16"
    """Number format in which the products are computed."""
    experts_dtype: DType | None = None
    """The same for routed experts on chips whose tensor cores scale blocks by themselves, where
    engines narrow the activations for them; ``compute_dtype`` where absent."""
    scale_block: Count | None = None
    """Weights along a sum that share a scale, where integer products are summed block by block."""
    lossless: bool = False
    """True only where the format is the one the model was published in, or wider."""
    quality: tuple[QualityEffect, ...] = ()
    """Published effects; a family without one is unknown, never lossless."""

    @property
    def wide_dtype(self) -> DType:
        """Format of what is never narrowed below 16 bits: attention, and a head kept wide."""
        return self.compute_dtype if self.compute_dtype in _WIDE else "bf16"

    @property
    def is_packed(self) -> bool:
        """Whether vector units unpack a weight to the 8 bits that it is multiplied in."""
        return self.compute_dtype == "int8" and self.weight_bits < 8

    def layer_bytes(self, params: float, expert_params: float = 0.0) -> float:
        """Bytes of weights of a layer: ``params`` beside its routed experts, the rest in them."""
        narrow = self.weight_bits
        beside = self.beside_experts_bits if expert_params else None
        return (params * (beside or narrow) + expert_params * narrow) / 8

    def quality_for(self, family: str) -> Fraction | None:
        """Lowest published share of quality kept for a family; None where nothing is known."""
        if self.lossless:
            return 1.0
        kept = [effect.retained for effect in self.quality if effect.family == family]
        return min(kept) if kept else None
