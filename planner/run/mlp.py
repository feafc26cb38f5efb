"""The gated MLP of a decoder layer: dense, or routed to a few of many experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from planner.run.linear import Linear


@dataclass(frozen=True, slots=True)
class Dense:
    """``down(silu(gate x) * up x)``."""

    gate_up: Linear
    """[2 I, H]: both projections in one product."""
    down: Linear

    @property
    def weight_bytes(self) -> int:
        """Bytes of its matrices."""
        return self.gate_up.weight_bytes + self.down.weight_bytes

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, H] to [rows, H]."""
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


@dataclass(frozen=True, slots=True)
class Experts:
    """A router and its experts; each row passes the few that the router likes best.

    Scores are a softmax over all experts in fp32; where ``normed``, those of the chosen ones are
    scaled to sum to one (arXiv 2401.04088, section 2).
    """

    router: Linear
    """[experts, H]"""
    experts: Sequence[Dense]
    per_token: int
    normed: bool

    @property
    def weight_bytes(self) -> int:
        """Bytes of its matrices."""
        return self.router.weight_bytes + sum(expert.weight_bytes for expert in self.experts)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, H] to [rows, H]."""
        scores, chosen = self.router(x).float().softmax(-1).topk(self.per_token, -1)
        if self.normed:
            scores = scores / scores.sum(-1, keepdim=True)
        scores = scores.to(x.dtype)
        y = torch.zeros_like(x)
        for index in sorted(set(chosen.flatten().tolist())):
            rows, places = torch.where(chosen == index)
            part = self.experts[index](x[rows]) * scores[rows, places, None]
            y.index_add_(0, rows, part.to(y.dtype))
        return y
