"""Linear: a matrix product with the fastest kernel this machine has for its number format.

A weight is held once, in one form:

- ``fp32``: plain; the same product that ``transformers`` computes, bit for bit.
- ``bf16``: packed for oneDNN, or plain. Of a plain weight torch's own kernel (``native``) makes
  the product of one row up to twice as fast as oneDNN does, which wins from two rows on.
  ``widened`` computes in fp32, for processors without bf16 arithmetic.
- ``int8``: one signed byte per weight and one scale per output. ``exact`` also rounds the
  activations of each row to eight bits and multiplies integers; ``weight_only`` keeps them in
  bf16; ``cast`` widens the weights on the fly, which is slow and works everywhere. With each
  of them a row's result is the same in any batch, but which one runs depends on the number of
  rows: tokens may depend on the batch, as they do in bf16.

Which kernel is best, or works at all, differs between processors, so a worker lets them race at
its start.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
_MOST_ROWS = {"native": 3}
"""Beyond so many rows a kernel is hopeless, and slow to find out."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Which kernel serves how many rows, by entry of ROWS."""

    bf16: tuple[str, ...] = ("default",) * len(ROWS)
    """For plain weights."""
    int8: tuple[str, ...] = ("cast",) * len(ROWS)
    packed: bool = False
    """Whether bf16 weights are packed, which leaves no choice."""
    compiled: bool = False
    """Whether single rows go through compiled programs, which read plain weights."""


class Linear:
    """``y = x W' + b`` for ``x [rows, inputs]`` and ``W [outputs, inputs]``."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, quant: str, kernels: Kernels, pack: bool = True
    ) -> None:
        self.bias = bias = None if bias is None else bias.to(DTYPES[quant])
        self.weight: Tensor | None = None
        """What compiled programs read: plain bf16, or signed bytes; None where it is packed."""
        self.scale: Tensor | None = None
        """Of each output, where the weight is in signed bytes."""
        if quant == "int8":
            self.weight, self.scale = quantise(weight)
            self._products, self.weight_bytes = _int8(self.weight, self.scale, bias)
            self._names = kernels.int8
        else:
            packed = pack and kernels.packed and quant == "bf16"
            narrow = weight.to(DTYPES[quant])
            self.weight = None if packed else narrow
            self._products, self.weight_bytes = _floating(narrow, bias, packed)
            self._names = kernels.bf16 if quant == "bf16" else Kernels().bf16
            if packed:
                self._names = ("packed",) * len(ROWS)

    def __call__(self, x: Tensor) -> Tensor:
        """The product, ``[rows, outputs]``."""
        return self._products[self._names[_entry(x.shape[0])]](x)


def _entry(rows: int) -> int:
    """Which entry of ROWS serves so many rows."""
    return bisect_right(ROWS, rows) - 1


def _floating(weight: Tensor, bias: Tensor | None, packed: bool) -> tuple[dict[str, Product], int]:
    """Products by kernel name for a floating-point weight, and the bytes it takes."""
    if packed:
        blocks = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        pointwise = torch.ops.mkldnn._linear_pointwise
        return {"packed": lambda x: pointwise(x, blocks, bias, "none", [], "")}, weight.nbytes
    products: dict[str, Product] = {
        "default": lambda x: F.linear(x, weight, bias),
        "native": lambda x: _native(x, weight, bias),
        "widened": lambda x: F.linear(x.float(), weight.float(), _float(bias)).to(x.dtype),
    }
    return products, weight.nbytes


def _float(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()


def _native(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product by torch's own kernel; oneDNN's switch is global, so it is put back at once."""
    torch._C._set_mkldnn_enabled(False)
    try:
        return F.linear(x, weight, bias)
    finally:
        torch._C._set_mkldnn_enabled(True)


def _int8(quantised: Tensor, scale: Tensor, bias: Tensor | None) -> tuple[dict[str, Product], int]:
    """Products by kernel name for one int8 copy of a weight, and the bytes it takes."""
    scale_bf16 = scale.to(torch.bfloat16)
    products: dict[str, Product] = {
        "exact": lambda x: _exact(x, quantised, scale),
        "weight_only": lambda x: torch._weight_int8pack_mm(x, quantised, scale_bf16),
        "cast": lambda x: F.linear(x, quantised.to(x.dtype)) * scale_bf16,
        "widened": lambda x: (F.linear(x.float(), quantised.float()) * scale).to(x.dtype),
    }
    if bias is not None:
        products = {name: _biased(product, bias) for name, product in products.items()}
    return products, quantised.nbytes + scale.nbytes + scale_bf16.nbytes


def _biased(product: Product, bias: Tensor) -> Product:
    return lambda x: product(x).add_(bias)


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
    the decode steps decide between all plain and all packed, that of all ``rows`` among them.
    """
    if quant == "fp32" or device != "cpu":
        return Kernels()
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(_RACE_SHAPE, generator=generator) for _ in range(_RACE_COPIES)]
    narrow = [weight.to(torch.bfloat16) for weight in weights]
    plain = [_floating(weight, None, packed=False)[0] for weight in narrow]
    most = min(rows, ROWS[-1])
    counts = tuple(sorted({*ROWS, most}))
    plain_s = _times(plain, ("default", "native", "widened"), weights[0], counts)
    bf16 = choose(plain_s)
    packed = False
    if _works(lambda x: _floating(narrow[0], None, packed=True)[0]["packed"](x), weights[0]):
        blocks = [_floating(weight, None, packed=True)[0] for weight in narrow]
        packed_s = _times(blocks, ("packed",), weights[0], counts)
        decode = [(count, bf16[_entry(count)]) for count in counts if count <= most]
        packed = sum(packed_s[c]["packed"] for c, _ in decode) < sum(
            plain_s[c][name] for c, name in decode
        )
    if quant == "bf16":
        return Kernels(bf16, packed=packed)
    integer = [_int8(*quantise(weight), None)[0] for weight in weights]
    int8_s = _times(integer, ("exact", "weight_only", "cast", "widened"), weights[0])
    return Kernels(bf16, choose(int8_s), packed)


def as_told(told: Mapping[str, Any] | None, quant: str, device: str, rows: int) -> Kernels:
    """The kernels that an order names; those that win a race where it names none."""
    if told is None:
        return race(quant, device, rows)
    return Kernels(
        tuple(told["bf16"]), tuple(told["int8"]), told["packed"], told.get("compiled", False)
    )


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


def _times(
    made: list[dict[str, Product]],
    names: tuple[str, ...],
    weight: Tensor,
    counts: tuple[int, ...] = ROWS,
) -> dict[int, dict[str, float]]:
    """Lower-quartile seconds by rows and kernel; ``made[0]`` was made of ``weight``."""
    able = [name for name in names if _works(made[0][name], weight)]
    return {
        rows: _time(made, [n for n in able if rows <= _MOST_ROWS.get(n, rows)], rows)
        for rows in counts
    }


def _works(product: Product, weight: Tensor) -> bool:
    """Whether this machine has the kernel, and it does not overflow."""
    x = torch.full((2, weight.shape[1]), 3.0)
    exact = F.linear(x, weight)
    try:
        off = product(x.to(torch.bfloat16)).float() - exact
    except RuntimeError:
        return False
    return float(off.square().mean()) < 0.01 * float(exact.square().mean())


def _time(made: list[dict[str, Product]], names: list[str], rows: int) -> dict[str, float]:
    """Lower-quartile seconds of each kernel for ``rows`` rows, measured in turns.

    In each turn every kernel reads another weight, or the later ones would find it in cache.
    """
    x = torch.randn(rows, _RACE_SHAPE[1], dtype=torch.bfloat16)
    taken_s: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(_RACE_ROUNDS):
        for index, name in enumerate(names):
            product = made[(turn + index * len(made) // len(names)) % len(made)][name]
            start_s = time.perf_counter()
            product(x)
            taken_s[name].append(time.perf_counter() - start_s)
    return {name: sorted(values)[len(values) // 4] for name, values in taken_s.items()}
