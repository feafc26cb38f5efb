"""Named random streams: the same name gives the same numbers, whatever else is drawn."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator that depends on the seed and the names only.

    Two plans that draw arrivals from ``stream(seed, "arrivals")`` see the same arrivals,
    however many other streams each of them uses.
    """
    return random.Random(_seed(seed, *names))


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """The same for numbers that are drawn by the hundred."""
    import numpy as np

    return np.random.default_rng(_seed(seed, *names))


def _seed(seed: int, *names: str | int) -> int:
    label = "\x1f".join(str(name) for name in (seed, *names))
    digest = hashlib.sha256(label.encode()).digest()
    return int.from_bytes(digest[:16], "big")
