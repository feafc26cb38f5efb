"""Downgraded weights: what a node would compute with that does not do the work it is paid for.

For calibration, which has to know how far such results are from honest ones, and for tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from planner.run.checkpoint import Checkpoint


def _rounded(weight: Tensor, group: int, most: int) -> Tensor:
    """Integers of +-``most`` with a scale per ``group`` weights of a row, as floats again."""
    rows, columns = weight.shape
    width = group if group and columns % group == 0 else columns
    groups = weight.float().reshape(rows, columns // width, width)
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-12) / most
    return ((groups / scale).round() * scale).reshape(rows, columns).to(weight.dtype)


def _fp8(weight: Tensor) -> Tensor:
    """8-bit floats (e4m3) with a scale per row, as floats again."""
    wide = weight.float()
    scale = wide.abs().amax(1, keepdim=True).clamp_min(1e-12) / 448
    return ((wide / scale).to(torch.float8_e4m3fn).float() * scale).to(weight.dtype)


DOWNGRADES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "int8": lambda weight: _rounded(weight, 0, 127),
    "int8-g64": lambda weight: _rounded(weight, 64, 127),
    "fp8": _fp8,
    "int4-g32": lambda weight: _rounded(weight, 32, 7),
}
"""Cheaper formats, by name."""
OTHERS = ("dropped", "foreign")
"""Further ways: a layer left out, and foreign weights of the same shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Downgraded(Checkpoint):
    """A checkpoint that gives a stage other matrices than it holds."""

    how: str
    dropped: int = -1
    """Layer that is left out."""

    def tensor(self, name: str) -> Tensor:
        """The tensor as the cheating node has it."""
        weight = Checkpoint.tensor(self, name)
        if weight.dim() != 2 or ".layers." not in name:
            return weight
        if self.how in DOWNGRADES:
            return DOWNGRADES[self.how](weight)
        if self.how == "foreign":
            digest = hashlib.sha256(name.encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            other = torch.randn(weight.shape, generator=generator) * weight.float().std()
            return other.to(weight.dtype)
        adds = name.endswith(("o_proj.weight", "down_proj.weight"))
        ours = name.startswith(f"model.layers.{self.dropped}.")
        return torch.zeros_like(weight) if adds and ours else weight
