"""Row: a decode step of one sequence by compiled programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from planner.run.config import ModelConfig
from planner.run.kiln import Program, bake
from planner.run.linear import Linear
from planner.run.mlp import Dense
from planner.run.programs import NAMES, Form, Inputs

if TYPE_CHECKING:
    from planner.run.model import Layer


@dataclass(frozen=True, slots=True)
class RowLayer:
    """What a layer does to a row in front of its attention and behind it."""

    _before: Program
    _after: Program
    _into: list[Tensor]
    _out_of: list[Tensor]

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> list[Tensor]:
        """Queries [1, N, D], keys and values [1, K, D] of a row [1, H]."""
        return self._before([x, cos, sin, *self._into])

    def after(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The row [1, H] that leaves the layer, from what entered it and what it attended to."""
        return self._after([x, mixed, *self._out_of])[0]


@dataclass(frozen=True, slots=True)
class Row:
    """Steps of a stage's layers, and its end where it has the last one."""

    steps: Sequence[RowLayer]
    _end: Program | None
    _head: list[Tensor]

    def logits(self, x: Tensor) -> Tensor:
        """Logits [1, vocabulary] of a row [1, H]."""
        assert self._end is not None
        return self._end([x, *self._head])[0]


def row_of(
    config: ModelConfig, layers: Sequence[Layer], norm: Tensor | None, head: Linear | None
) -> Row | None:
    """The programs of a stage's layers; None where it has other layers or they do not compile."""
    dense = [layer.mlp for layer in layers if isinstance(layer.mlp, Dense)]
    plain = all(layer.qkv.weight is not None for layer in layers)
    if not dense or len(dense) < len(layers) or not plain:
        return None
    form = Form(
        hidden=config.hidden_size,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        wide=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
        int8=layers[0].qkv.scale is not None,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        mlp_bias=config.mlp_bias,
        qk_norm=config.qk_norm,
        threads=torch.get_num_threads(),
    )
    programs = bake(form, NAMES)  # all of them: a stage that takes over on this host finds them
    if programs is None:
        return None
    steps = [
        RowLayer(
            programs["before"],
            programs["after"],
            _given(layer.input_norm, layer.qk_norm, *_parts(layer.qkv)),
            _given(layer.post_norm, *_parts(layer.out), *_parts(mlp.gate_up), *_parts(mlp.down)),
        )
        for layer, mlp in zip(layers, dense, strict=True)
    ]
    if not _sound(config, layers[0], steps[0]):
        return None
    if head is None:
        return Row(steps, None, [])
    return Row(steps, programs["end"], _given(norm, head.weight))


def _sound(config: ModelConfig, layer: Layer, step: RowLayer) -> bool:
    """Whether a compiled step makes of a row what the layer itself does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, config.hidden_size, generator=generator).bfloat16()
    mixed = torch.randn(1, config.heads * config.head_dim, generator=generator).bfloat16()
    y = x + layer.out(mixed)
    h = F.rms_norm(y, (config.hidden_size,), layer.post_norm, config.rms_norm_eps)
    exact = (y + layer.mlp(h)).float()
    off = step.after(x, mixed).float() - exact
    return float(off.square().mean()) < 0.001 * float(exact.square().mean())


def _parts(linear: Linear) -> Inputs:
    return linear.weight, linear.scale, linear.bias


def _given(*inputs: Tensor | None) -> list[Tensor]:
    return [one for one in inputs if one is not None]
