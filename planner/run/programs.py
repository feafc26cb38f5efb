"""Programs: what a dense layer does to one row between its attentions, as torch operations.

torch's own products of one row reach about half of what a streaming read of the same memory does:
a processor fetches ahead within a few streams only, and they read one row of a matrix after the
other. Here a product reads from eight places of the matrix at once, in one loop that inductor
makes of it; norms, rotation, residuals and the gate of the MLP join the loops around them.
``kiln`` compiles the programs, ``Row`` runs them.

A weight is ``[outputs, inputs]``, in bf16 or in signed bytes with a scale per output. Roundings
to bf16 are those of the plain layer at most, sums are in fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

NAMES = ("before", "after", "end")
"""In front of attention, behind it, and behind the last layer."""
_STREAMS = (8, 4, 2, 1)

Inputs = tuple[Tensor | None, ...]
"""Tensors of a program in the order of its arguments; None for what a model does not have."""


@dataclass(frozen=True, slots=True)
class Form:
    """All that compiled programs depend on, besides processor and torch."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    wide: int
    """Outputs of the gate, and of the up projection."""
    vocabulary: int
    epsilon: float
    int8: bool
    """Whether the matrices of layers are in signed bytes; that of the head is in bf16."""
    qkv_bias: bool
    out_bias: bool
    mlp_bias: bool
    qk_norm: bool
    threads: int

    def program(self, name: str) -> Callable[..., tuple[Tensor, ...]]:
        """The function of a program."""
        programs: dict[str, Callable[..., tuple[Tensor, ...]]] = {
            "before": self._before,
            "after": self._after,
            "end": self._end,
        }
        return programs[name]

    def examples(self, name: str) -> Inputs:
        """Inputs of a program, made up; their shapes and number formats are what counts."""
        rotated = self.heads + self.kv_heads
        attended = self.heads * self.head_dim
        row, angle = _bf16(1, self.hidden), _bf16(1, 1, self.head_dim)
        if name == "end":
            return row, _bf16(self.hidden), _bf16(self.vocabulary, self.hidden)
        if name == "before":
            outputs = (rotated + self.kv_heads) * self.head_dim
            qkv = self._matrix(outputs, self.hidden, self.qkv_bias)
            qk_norm = _bf16(rotated, self.head_dim) if self.qk_norm else None
            return row, angle, angle.clone(), _bf16(self.hidden), qk_norm, *qkv
        return (
            row,
            _bf16(1, attended),
            _bf16(self.hidden),
            *self._matrix(self.hidden, attended, self.out_bias),
            *self._matrix(2 * self.wide, self.hidden, self.mlp_bias),
            *self._matrix(self.hidden, self.wide, self.mlp_bias),
        )

    def _matrix(self, outputs: int, inputs: int, bias: bool) -> Inputs:
        """Weight, scale and bias."""
        dtype = torch.int8 if self.int8 else torch.bfloat16
        return (
            torch.ones(outputs, inputs, dtype=dtype),
            torch.ones(outputs) if self.int8 else None,
            _bf16(outputs) if bias else None,
        )

    def _before(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        norm: Tensor,
        qk_norm: Tensor | None,
        qkv: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Queries [1, N, D], keys and values [1, K, D] of a row [1, H]."""
        h = self._normed(x[0].float(), norm)
        y = _product(qkv, scale, bias, h).bfloat16().view(1, -1, self.head_dim)
        rotated = self.heads + self.kv_heads
        qk = y[:, :rotated].float()
        if qk_norm is not None:
            qk = F.rms_norm(qk, (self.head_dim,), None, self.epsilon) * qk_norm
        front, back = qk.chunk(2, -1)
        qk = (qk * cos + torch.cat((back, front), -1) * sin).bfloat16()
        parts = qk[:, : self.heads], qk[:, self.heads :], y[:, rotated:]
        return tuple(part.contiguous() for part in parts)

    def _after(
        self,
        x: Tensor,
        mixed: Tensor,
        norm: Tensor,
        out: Tensor,
        out_scale: Tensor | None,
        out_bias: Tensor | None,
        gate_up: Tensor,
        gate_up_scale: Tensor | None,
        gate_up_bias: Tensor | None,
        down: Tensor,
        down_scale: Tensor | None,
        down_bias: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """The row [1, H] that leaves a layer whose attention made ``mixed`` [1, N D] of it."""
        y = x[0].float() + _product(out, out_scale, out_bias, mixed[0].float())
        joined = _product(gate_up, gate_up_scale, gate_up_bias, self._normed(y, norm))
        gate, up = joined.chunk(2)
        h = (F.silu(gate) * up).bfloat16().float()
        return ((y + _product(down, down_scale, down_bias, h)).bfloat16()[None],)

    def _end(self, x: Tensor, norm: Tensor, head: Tensor) -> tuple[Tensor, ...]:
        """Logits [1, vocabulary] of a row [1, H]."""
        return (_product(head, None, None, self._normed(x[0].float(), norm)).bfloat16()[None],)

    def _normed(self, x: Tensor, norm: Tensor) -> Tensor:
        return F.rms_norm(x, (self.hidden,), norm.float(), self.epsilon).bfloat16().float()


def _product(weight: Tensor, scale: Tensor | None, bias: Tensor | None, x: Tensor) -> Tensor:
    """The product [outputs] of a weight with ``x [inputs]``, all in fp32.

    Sums over equal shapes become one loop, so parts of the matrix are read side by side.
    """
    outputs, inputs = weight.shape
    streams = next(count for count in _STREAMS if outputs % count == 0)
    parts = weight.view(streams, -1, inputs).unbind(0)
    y = torch.cat([(part.float() * x).sum(-1) for part in parts])
    if scale is not None:
        y = y * scale
    return y if bias is None else y + bias


def _bf16(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bfloat16)
