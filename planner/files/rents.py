"""Rows of a rental catalogue -> what a device costs for an hour; the catalogue's traps closed.

Rows of several devices are divided; a spot price of nothing, or not below on-demand, is no price;
hosts that are listed without their accelerator are completed with the row that has it alone, or
refused; a name that
the alias table does not have is refused; so is a price outside what any such card ever cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from planner.core.device import Device
from planner.core.prices import DeviceRent, RentKind
from planner.files.catalogue import Catalogue
from planner.files.names import ALIASES, aliases

LOWEST, HIGHEST = 0.03, 8.0
"""USD per hour and TB/s of memory bandwidth between which every card of the price lists lies."""

_HOSTS: Mapping[str, tuple[str, float]] = {
    "a2-highgpu": ("A100", 40),
    "a2-ultragpu": ("A100", 80),
    "a3-highgpu": ("H100", 80),
    "a3-megagpu": ("H100", 80),
    "g2-standard": ("L4", 24),
}
"""Machines of Google Cloud that some catalogues list without the accelerators they come with."""
_CARDS_OF_HOST = re.compile(r"-(\d+)g$")


@dataclass(frozen=True, slots=True)
class Row:
    """One machine of a catalogue."""

    instance: str
    location: str
    usd_per_hour: float
    count: int
    name: str
    """Of the accelerator; empty for none."""
    gigabytes: float
    spot: bool


@dataclass(frozen=True, slots=True)
class Rents:
    """What devices cost, and the rows that say nothing, with the reason."""

    devices: tuple[DeviceRent, ...]
    refused: tuple[str, ...]


def rents(rows: Iterable[Row], known: Catalogue, market: bool = False) -> Rents:
    """The cheapest row of each device and kind, by region of the cheapest.

    ``market`` says that independent hosts let, whose price on demand is a market price.
    """
    names = _names(known)
    refused: list[str] = []
    found: dict[tuple[str, RentKind], DeviceRent] = {}
    asked: dict[tuple[str, str], float] = {}
    given = list(rows)
    every = [_completed(row, given) for row in given if row.instance]
    for row in sorted(every, key=lambda one: (one.spot, one.location, one.instance)):
        rent = _rent(row, names, known, market, asked)
        if isinstance(rent, str):
            refused.append(f"{row.instance} in {row.location or 'no place'}: {rent}")
            continue
        key = (rent.device, rent.kind)
        if key not in found or rent.usd_per_hour < found[key].usd_per_hour:
            found[key] = rent
    kept = [
        rent
        for (device, kind), rent in sorted(found.items())
        if kind != "spot" or not _dear(rent, found.get((device, "on_demand")))
    ]
    return Rents(tuple(kept), tuple(dict.fromkeys(refused)))


def _dear(spot: DeviceRent, fixed: DeviceRent | None) -> bool:
    """Whether a spot price is not below the same region's price on demand."""
    return (
        fixed is not None
        and spot.region == fixed.region
        and spot.usd_per_hour >= fixed.usd_per_hour
    )


def _rent(
    row: Row,
    names: Mapping[str, str],
    known: Catalogue,
    market: bool,
    asked: dict[tuple[str, str], float],
) -> DeviceRent | str:
    """What a row says, or why it says nothing."""
    if not row.count or not row.name:
        return "no accelerator"
    wanted = f"{row.name} {row.gigabytes:g}"
    pcie = f"{wanted} pcie"
    form = pcie if "pcie" in row.instance.casefold() and pcie in names else wanted
    if form not in names:
        return f"{wanted} GB is no name of the alias table"
    each = row.usd_per_hour / row.count
    if each <= 0:
        return "a price of nothing"
    device, _ = known.get_as("devices", names[form], Device)
    ratio = each / (device.memory_bytes_per_s / 1e12)
    if not LOWEST <= ratio <= HIGHEST:
        return f"{each:.4g} USD/h is no price of a {device.id}"
    place = (device.id, row.location)
    if not row.spot:
        asked[place] = min(each, asked.get(place, each))
    elif place in asked and each >= asked[place]:
        return "spot is not below on-demand"
    kind: RentKind = "spot" if row.spot else "market" if market else "on_demand"
    return DeviceRent(device=device.id, usd_per_hour=each, kind=kind, region=row.location)


def _completed(row: Row, rows: Sequence[Row]) -> Row:
    """A host that is listed without its accelerators, with them if their price is listed apart."""
    family = next((name for name in _HOSTS if row.instance.startswith(name)), None)
    if family is None or row.count:
        return row
    name, gigabytes = _HOSTS[family]
    match = _CARDS_OF_HOST.search(row.instance)
    count = int(match[1]) if match else 1
    apart = [
        one.usd_per_hour / (one.count or 1)
        for one in rows
        if not one.instance
        and (one.name, one.gigabytes) == (name, gigabytes)
        and (one.location, one.spot) == (row.location, row.spot)
        and one.usd_per_hour > 0
    ]
    if not apart:
        return row
    usd = row.usd_per_hour + count * min(apart)
    return replace(row, usd_per_hour=usd, count=count, name=name, gigabytes=gigabytes)


def _names(known: Catalogue) -> dict[str, str]:
    named: dict[str, str] = {}
    for folder in reversed(known.folders):
        named |= aliases(folder / ALIASES).get("rents", {})
    return named
