"""Rotary: the angles by which queries and keys are turned, by position."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from planner.run.config import Rope


def tables(rope: Rope, head_dim: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of positions below ``tokens``, [tokens, D] each in fp32."""
    angles = torch.arange(tokens).float()[:, None] * frequencies(rope, head_dim)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Rotary frequencies [D / 2].

    Plain: RoFormer (arXiv 2104.09864), equation 15. ``linear`` divides them by the factor
    (arXiv 2306.15595). ``llama3`` divides the slow ones and blends in between, as the Llama 3.1
    reference code does.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / (rope.theta**exponents)
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind != "llama3":
        return plain
    waves = 2 * math.pi / plain
    slow = torch.where(
        waves > rope.original_tokens / rope.low_freq_factor, plain / rope.factor, plain
    )
    blend = rope.original_tokens / waves - rope.low_freq_factor
    blend /= rope.high_freq_factor - rope.low_freq_factor
    between = (waves >= rope.original_tokens / rope.high_freq_factor) & (
        waves <= rope.original_tokens / rope.low_freq_factor
    )
    return torch.where(between, (1 - blend) * slow / rope.factor + blend * slow, slow)
