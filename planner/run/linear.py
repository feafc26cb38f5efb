"""Linear: a matrix product with the fastest kernel this machine has for its number format.

A weight is held once, in one form:

- ``fp32``: plain; the same product that ``transformers`` computes, bit for bit.
- ``bf16``: packed for oneDNN, or plain. Of a plain weight torch's own kernel makes the product
  of one row up to twice as fast as oneDNN does, which wins from two rows on.
- ``int8``: one signed byte per weight and one scale per output. ``exact`` also rounds the
  activations of each row to eight bits and multiplies integers, so a row's result does not
  depend on its batch; ``weight_only`` keeps them in bf16. Which one runs depends on the number
  of rows, and the two differ by about 1 %: tokens may depend on the batch as they do in bf16.

Which kernel is best differs between processors, so a worker lets them race at its start.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Product = Callable[[Tensor], Tensor]

ROWS = (1, 2, 4, 16, 64)
"""Rows at which kernels race; a kernel serves from its own count up to the next one."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
"""Number format of activations by quantization."""

_RACE_SHAPE = (3072, 1024)
_RACE_COPIES = 24
_RACE_ROUNDS = 12
_NATIVE_ROWS = 4
"""Beyond so many rows torch's own bf16 product is hopeless, and slow to find out."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Which kernel serves how many rows, by entry of ROWS."""

    bf16: tuple[str, ...] = ("default",) * len(ROWS)
    """For plain weights."""
    int8: tuple[str, ...] = ("exact",) * len(ROWS)
    packed: bool = False
    """Whether bf16 weights are packed, which leaves no choice."""


class Linear:
    """``y = x W' + b`` for ``x [rows, inputs]`` and ``W [outputs, inputs]``."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, quant: str, kernels: Kernels, pack: bool = True
    ) -> None:
        bias = None if bias is None else bias.to(DTYPES[quant])
        if quant == "int8":
            self._products, self.weight_bytes = _int8(weight, bias)
            self._names = kernels.int8
        else:
            packed = pack and kernels.packed and quant == "bf16"
            self._products, self.weight_bytes = _floating(weight.to(DTYPES[quant]), bias, packed)
            self._names = kernels.bf16 if quant == "bf16" else Kernels().bf16
            if packed:
                self._names = ("packed",) * len(ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        """The product, ``[rows, outputs]``."""
        return self._products[self._names[bisect_right(ROWS, x.shape[0]) - 1]](x)


def _floating(weight: Tensor, bias: Tensor | None, packed: bool) -> tuple[dict[str, Product], int]:
    """Products by kernel name for a floating-point weight, and the bytes it takes."""
    if packed:
        blocks = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        pointwise = torch.ops.mkldnn._linear_pointwise
        return {"packed": lambda x: pointwise(x, blocks, bias, "none", [], "")}, weight.nbytes
    products: dict[str, Product] = {
        "default": lambda x: F.linear(x, weight, bias),
        "native": lambda x: _native(x, weight, bias),
    }
    return products, weight.nbytes


def _native(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product by torch's own kernel; oneDNN's switch is global, so it is put back at once."""
    torch._C._set_mkldnn_enabled(False)
    try:
        return F.linear(x, weight, bias)
    finally:
        torch._C._set_mkldnn_enabled(True)


def _int8(weight: Tensor, bias: Tensor | None) -> tuple[dict[str, Product], int]:
    """Products by kernel name for one int8 copy of a weight, and the bytes it takes."""
    quantised, scale = quantise(weight)
    scale_bf16 = scale.to(torch.bfloat16)
    added = 0.0 if bias is None else bias
    products: dict[str, Product] = {
        "exact": lambda x: _exact(x, quantised, scale) + added,
        "weight_only": lambda x: torch._weight_int8pack_mm(x, quantised, scale_bf16) + added,
        "cast": lambda x: F.linear(x, quantised.to(x.dtype)) * scale_bf16 + added,
    }
    return products, quantised.nbytes + scale.nbytes + scale_bf16.nbytes


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Signed bytes ``[outputs, inputs]`` and a float32 scale ``[outputs]`` for a weight."""
    wide = weight.float()
    scale = wide.abs().amax(1).clamp_min_(1e-12) / 127
    return (wide / scale[:, None]).round_().to(torch.int8), scale


def _exact(x: Tensor, quantised: Tensor, scale: Tensor) -> Tensor:
    """Integer product of rows rounded to eight bits, each by its own largest value."""
    wide = x.float()
    row_scale = wide.abs().amax(1, keepdim=True).clamp_min_(1e-12) / 127  # [rows, 1]
    rows = (wide / row_scale).round_().to(torch.int8)
    sums = torch._int_mm(rows, quantised.t())  # [rows, outputs] int32, no rounding
    return (sums * row_scale).mul_(scale).to(x.dtype)


def race(quant: str, device: str, rows: int) -> Kernels:
    """The fastest kernels for decode batches of up to ``rows`` sequences.

    Weights are cold in cache, as they are in a model. A weight is held in one form, so for bf16
    the decode steps decide between all plain and all packed.
    """
    if device != "cpu":
        return Kernels(int8=("cast",) * len(ROWS))
    if quant == "fp32":
        return Kernels()
    generator = torch.Generator().manual_seed(0)
    copies = [torch.randn(_RACE_SHAPE, generator=generator) for _ in range(_RACE_COPIES)]
    narrow = [copy.to(torch.bfloat16) for copy in copies]
    made = [_floating(copy, None, False)[0] | _floating(copy, None, True)[0] for copy in narrow]
    times_s = {count: _time(made, ("default", "native", "packed"), count) for count in ROWS}
    packed_s = {count: times.pop("packed") for count, times in times_s.items()}
    bf16 = choose(times_s)
    decode = [(count, name) for count, name in zip(ROWS, bf16, strict=True) if count <= rows]
    packed = sum(packed_s[c] for c, _ in decode) < sum(times_s[c][name] for c, name in decode)
    if quant == "bf16":
        return Kernels(bf16, packed=packed)
    made = [_int8(copy, None)[0] for copy in copies]
    int8 = choose({count: _time(made, ("exact", "weight_only"), count) for count in ROWS})
    return Kernels(bf16, int8, packed)


def choose(times_s: Mapping[int, Mapping[str, float]]) -> tuple[str, ...]:
    """The fastest kernel at each entry of ROWS; a later name must be 10 % faster to win."""
    names = []
    for count in ROWS:
        winner = next(iter(times_s[count]))
        for name, seconds in times_s[count].items():
            if seconds < 0.9 * times_s[count][winner]:
                winner = name
        names.append(winner)
    return tuple(names)


def _time(made: list[dict[str, Product]], names: tuple[str, ...], rows: int) -> dict[str, float]:
    """Lower-quartile seconds of each kernel for ``rows`` rows, measured in turns.

    In each turn every kernel reads another weight, or the later ones would find it in cache.
    """
    x = torch.randn(rows, _RACE_SHAPE[1], dtype=torch.bfloat16)
    running = [name for name in names if name != "native" or rows <= _NATIVE_ROWS]
    taken_s: dict[str, list[float]] = {name: [] for name in running}
    for turn in range(_RACE_ROUNDS):
        for index, name in enumerate(running):
            product = made[(turn + index * len(made) // len(running)) % len(made)][name]
            start_s = time.perf_counter()
            product(x)
            taken_s[name].append(time.perf_counter() - start_s)
    return {name: sorted(values)[len(values) // 4] for name, values in taken_s.items()}
