"""Egress: what providers charge for bytes that leave them, after allowances and by volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.core.cluster import Cluster, Line
from planner.core.deployment import HOURS_PER_MONTH

Ends = tuple[str, str]
"""Sender and receiver."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one line is charged for."""

    sent_bytes: float
    """In an hour."""
    usd_per_byte: float
    """In the mean over the month, what is free included."""
    listed_usd_per_byte: float
    tier: str

    @property
    def usd_per_hour(self) -> float:
        """What the bytes of an hour cost."""
        return self.sent_bytes * self.usd_per_byte


def egress(
    cluster: Cluster, sent_bytes: Mapping[Ends, float] | Iterable[tuple[Ends, float]]
) -> dict[Ends, Charge]:
    """What each line is charged when ``sent_bytes`` pass it in every hour of a month.

    Lines of one tier share the free allowance and the volume that lowers prices; a line without a
    tier has its own.
    """
    sent: dict[Ends, float] = {}
    pairs = sent_bytes.items() if isinstance(sent_bytes, Mapping) else sent_bytes
    for ends, size_bytes in pairs:
        if ends[0] != ends[1]:
            sent[ends] = sent.get(ends, 0.0) + size_bytes
    lines = {ends: cluster.link(*ends) for ends in sent}
    volumes: dict[object, float] = {}
    for ends, line in lines.items():
        pool = line.tier or ends if line else ends
        volumes[pool] = volumes.get(pool, 0.0) + sent[ends] * HOURS_PER_MONTH
    charges = {}
    for ends, line in lines.items():
        if line is None:
            continue
        month_bytes = volumes[line.tier or ends]
        mean = mean_usd_per_byte(line, month_bytes)
        charges[ends] = Charge(sent[ends], mean, line.usd_per_byte, line.tier)
    return charges


def mean_usd_per_byte(line: Line, month_bytes: float) -> float:
    """Price of a byte in the mean of a month in which ``month_bytes`` are sent.

    Every byte is charged at the price of the step it falls into; the first ones are free.
    """
    if month_bytes <= 0:
        return 0.0 if line.free_bytes_per_month else line.usd_per_byte
    steps = [(0.0, 0.0)] if line.free_bytes_per_month else []
    steps.append((line.free_bytes_per_month, line.usd_per_byte))
    steps += [(step.above_bytes, step.usd_per_byte) for step in line.egress_steps]
    usd = 0.0
    for index, (above, price) in enumerate(steps):
        until = steps[index + 1][0] if index + 1 < len(steps) else month_bytes
        usd += price * max(0.0, min(until, month_bytes) - above)
    return usd / month_bytes
