"""Named random streams: the same name gives the same numbers, whatever else is drawn."""

from __future__ import annotations

import hashlib
import math
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATIO = 4 * math.exp(-0.5) / math.sqrt(2)


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


def normal(rng: random.Random) -> float:
    """A standard normal number by a ratio of uniform ones (Kinderman and Monahan 1977)."""
    while True:
        first, second = rng.random(), 1 - rng.random()
        z = _RATIO * (first - 0.5) / second
        if z * z / 4 <= -math.log(second):
            return z


def normals(rng: random.Random, count: int) -> NDArray[np.float64]:
    """The same as so many draws of ``normal``, and ``rng`` is left as after these.

    As many pairs are tried at a time as numbers are missing, so none is drawn that is not needed.
    """
    import numpy as np

    found, missing = [np.zeros(0)], count
    while missing:
        pairs = np.array([rng.random() for _ in range(2 * missing)])
        first, second = pairs[::2], 1 - pairs[1::2]
        z = _RATIO * (first - 0.5) / second
        logs = np.fromiter(map(math.log, second.tolist()), float, missing)
        kept = z[z * z / 4 <= -logs]
        found.append(kept)
        missing -= len(kept)
    return np.concatenate(found)


def _seed(seed: int, *names: str | int) -> int:
    label = "\x1f".join(str(name) for name in (seed, *names))
    digest = hashlib.sha256(label.encode()).digest()
    return int.from_bytes(digest[:16], "big")
