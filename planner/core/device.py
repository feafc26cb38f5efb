"""Device: what a chip can hold, read and compute."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.core.spec import Card
from planner.core.units import Bytes, BytesPerSecond, Count, FlopPerSecond, Seconds, Watts

DType = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4"]

_FALLBACK: dict[str, tuple[DType, ...]] = {
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp8": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
    "fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"),
    "int4": ("int4", "int8", "bf16", "fp16", "fp32"),
}


class Device(Card):
    """A GPU, an APU or a CPU as its datasheet (or ``planner probe``) describes it."""

    name: str
    """Name as the maker sells it."""
    device_class: str
    """Family that shares an engine calibration, such as ``nvidia_geforce``."""
    architecture: str = ""
    """Chip generation, where an engine behaves differently between generations."""
    memory_bytes: Bytes = Field(alias="memory")
    """Memory that weights and KV cache can use."""
    memory_bytes_per_s: BytesPerSecond = Field(alias="memory_bandwidth")
    """Peak memory bandwidth (datasheet), or a streaming read (probed)."""
    flop_per_s: dict[DType, FlopPerSecond] = Field(alias="compute", min_length=1)
    """Dense peak by number format; sparse rates do not count."""
    interconnect_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="interconnect")
    """What a device sends to others of its node, one way (NVLink, PCIe)."""
    tdp_w: Watts | None = Field(default=None, alias="tdp")
    """Board power under load."""
    idle_w: Watts | None = Field(default=None, alias="idle")
    """Power with weights loaded and nothing to do."""
    threads: Count | None = None
    """CPU threads that were used when the figures were probed."""
    call_s: Seconds | None = Field(default=None, alias="call")
    """Time of a small operation called from software, where it was probed: overheads scale with
    it from one moment to another."""
    host_threads: Count | None = None
    """CPU threads of the whole host, which workers on it share."""

    @property
    def workers_at_once(self) -> int | None:
        """Workers that can compute on one host without slowing each other; None for any number."""
        if self.threads is None or self.host_threads is None:
            return None
        return max(1, self.host_threads // self.threads)

    def peak_flop_per_s(self, dtype: DType) -> float:
        """Dense peak for ``dtype``, or for the format a chip without it computes in (FLOP/s)."""
        for candidate in _FALLBACK[dtype]:
            if candidate in self.flop_per_s:
                return self.flop_per_s[candidate]
        return max(self.flop_per_s.values())
