"""Settings: how the workers of a fleet run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

QUANTS = ("fp32", "bf16", "int8")
"""Quantizations the bundled runtime computes in."""
PACKAGES = ("torch", "safetensors", "tokenizers")
"""What the extra ``run`` installs."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the workers of a fleet run."""

    checkpoint: Path
    slot_tokens: int
    """Tokens that one seat's cache holds."""
    threads: int
    """Compute threads of each worker."""
    device: str = "cpu"
    seed: int = 0
    imitate_links: bool = True
    """Whether messages are held back as the cluster's links would."""
    wires: Mapping[str, str] = field(default_factory=dict)
    """How hidden states travel, by quantization: ``plain`` where absent, or ``int8``."""
    draft_tokens: int = 0
    """Guesses that are checked along with the latest token of a sequence, at most."""
    checks_in_flight: int = 1
    """Checks of guesses under way at once."""
    gauge: bool = False
    """Whether hosts are asked what they reach now, before anything else runs on them."""
    compiled: bool = False
    """Whether stages may compile their single rows, which takes a while at the first start."""
    prefill_chunk: int | None = None
    """Tokens of a prompt that go down a pipeline at a time; None for all of them."""
