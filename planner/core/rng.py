"""Named random streams: the same name gives the same numbers, whatever else is drawn."""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, *names: str | int) -> random.Random:
    """A generator that depends on the seed and the names only.

    Two plans that draw arrivals from ``stream(seed, "arrivals")`` see the same arrivals,
    however many other streams each of them uses.
    """
    label = "\x1f".join(str(name) for name in (seed, *names))
    digest = hashlib.sha256(label.encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))
