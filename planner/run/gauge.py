"""Gauge: what one worker of this host reaches right now, read in about a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812

from planner.core.drift import Speeds
from planner.run.clock import Clock

_STREAM_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}
_SIDE = {"cpu": 1536, "cuda": 8192}
"""Rows and columns of the products that show a device's peak."""
_CALLS, _WIDTH = 100, 64


def gauge(on: str = "cpu") -> Speeds:
    """The readings by which a profile is scaled, with the threads that torch has."""
    return Speeds(read_bytes_per_s(on), flop_per_s(torch.bfloat16, on), call_s(on))


def read_bytes_per_s(on: str = "cpu") -> float:
    """What a read of more memory than caches hold reaches."""
    data = torch.ones(_STREAM_BYTES[_kind(on)] // 4, device=on)
    return _four(data.nbytes / Clock(on).median_s(data.sum))


def flop_per_s(dtype: torch.dtype, on: str = "cpu") -> float:
    """What square products in a number format reach."""
    side = _SIDE[_kind(on)]
    if dtype == torch.int8:
        whole = torch.randint(-100, 100, (side, side), dtype=dtype, device=on)
        return _rate(on, partial(torch._int_mm, whole, whole.t()))
    left = torch.randn(side, side, device=on).to(dtype)
    return _rate(on, partial(torch.matmul, left, left))


@torch.inference_mode()
def call_s(on: str = "cpu") -> float:
    """What an operation takes that has next to nothing to compute."""
    x = torch.ones(1, _WIDTH, dtype=torch.bfloat16, device=on)

    def chain() -> None:
        y = x
        for _ in range(_CALLS):
            y = x + F.rms_norm(y, (_WIDTH,))

    return _four(Clock(on).median_s(chain) / (2 * _CALLS))


def _rate(on: str, product: Callable[[], object]) -> float:
    return _four(2.0 * _SIDE[_kind(on)] ** 3 / Clock(on).median_s(product))


def _kind(on: str) -> str:
    return on.partition(":")[0]


def _four(value: float) -> float:
    return float(f"{value:.4g}")
