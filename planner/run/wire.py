"""How hidden states travel between stages: as they are, or as int8 with a scale per group.

A group of 128 values shares a scale: with one scale for a whole row a single outlier would take
the precision of all others. A row is its int8 values followed by its scales in fp16, so rows stay
apart and can be cut out and joined as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

INT8 = "int8g128"
"""What frames call it."""
GROUP = 128
"""Values that share a scale."""


def narrow(y: Tensor) -> Tensor:
    """Bytes [rows, H + 2 G] of hidden states [rows, H], G groups of 128 each, the last padded."""
    groups = -(-y.shape[1] // GROUP)
    wide = F.pad(y.float(), (0, groups * GROUP - y.shape[1])).view(y.shape[0], groups, GROUP)
    scales = (wide.abs().amax(-1) / 127).clamp_(2**-24, 65504.0).half()  # fp16's range
    values = (wide / scales.float()[..., None]).round_().clamp_(-127, 127).to(torch.int8)
    flat = values.flatten(1)[:, : y.shape[1]]
    return torch.cat((flat.view(torch.uint8), scales.view(torch.uint8)), 1)


def row_bytes(columns: int) -> int:
    """Bytes of a row of so many hidden states."""
    return columns + 2 * -(-columns // GROUP)


def widen(data: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Hidden states [rows, H] of what ``narrow`` made of them; ``columns`` is H."""
    groups = -(-columns // GROUP)
    scales = data[:, columns:].contiguous().view(torch.float16).float()  # [rows, G]
    flat = data[:, :columns].contiguous().view(torch.int8).float()
    values = F.pad(flat, (0, groups * GROUP - columns))
    wide = values.view(data.shape[0], groups, GROUP) * scales[..., None]
    return wide.flatten(1)[:, :columns].to(dtype)
