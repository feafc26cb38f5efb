"""Price of a usage."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Usage:
    """What one node or link used, with the prices it is charged at."""

    rent_usd_per_hour: float = 0.0
    rented_s: float = 0.0
    energy_joule: float = 0.0
    usd_per_joule: float = 0.0
    egress_bytes: float = 0.0
    usd_per_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """USD by cause; the parts sum to the total."""

    rent_usd: float = 0.0
    energy_usd: float = 0.0
    egress_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """All parts together."""
        return self.rent_usd + self.energy_usd + self.egress_usd

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.rent_usd + other.rent_usd,
            self.energy_usd + other.energy_usd,
            self.egress_usd + other.egress_usd,
        )

    def parts(self) -> dict[str, float]:
        """USD by the name of the part."""
        return {
            field.name.removesuffix("_usd"): getattr(self, field.name) for field in fields(self)
        }


def price(usage: Usage) -> Cost:
    """What a usage costs (USD)."""
    return Cost(
        rent_usd=usage.rent_usd_per_hour * usage.rented_s / 3600,
        energy_usd=usage.energy_joule * usage.usd_per_joule,
        egress_usd=usage.egress_bytes * usage.usd_per_byte,
    )


def energy_joule(
    busy_s: float, total_s: float, busy_w: float | None, idle_w: float | None
) -> float:
    """Energy of a node that is busy for part of the time (J).

    A device whose power is unknown counts as 0 W, which the caller has to say.
    """
    busy = busy_w or 0.0
    idle = idle_w if idle_w is not None else 0.0
    return busy * busy_s + idle * max(0.0, total_s - busy_s)
