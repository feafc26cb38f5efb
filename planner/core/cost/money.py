"""Energy of a machine by what it does."""

from __future__ import annotations


def energy_joule(
    busy_s: float, total_s: float, busy_w: float | None, idle_w: float | None
) -> float:
    """Energy of a node that is busy for part of the time (J).

    A device whose power is unknown counts as 0 W, which the caller has to say.
    """
    busy = busy_w or 0.0
    idle = idle_w if idle_w is not None else 0.0
    return busy * busy_s + idle * max(0.0, total_s - busy_s)
