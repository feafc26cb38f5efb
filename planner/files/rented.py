"""Rented machines from price lists, as problems with the scenario's model and requests.

Of every card on the lists the smallest machine is taken that holds the model; the cheapest types
are planned with, and those with the most memory bandwidth for the money. Machines of one provider
and region reach each other, those of different ones do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.core.cluster import REGION, Churn, Link, Network, Node
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.prices import DeviceRent, PriceList, RentKind
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.files.catalogue import Catalogue
from planner.files.offers import (
    Offer,
    PriceTag,
    Unavailable,
    assembled,
    card,
    link,
    schemes,
    smallest,
)
from planner.files.surface import RentEntry

COUNTS = (1, 2, 4, 8)
"""Cards of a machine."""
_SCHEMES = ("fp8", "int4-g128")
CHURN: dict[RentKind, str] = {
    "on_demand": "datacentre",
    "reserved": "datacentre",
    "spot": "cloud-spot-good-zone",
    "market": "marketplace-interruptible",
}
"""How machines come and go, by how they are rented."""
NAMES: dict[RentKind, str] = {
    "on_demand": "cloud on demand",
    "reserved": "reserved cloud",
    "spot": "cloud spot",
    "market": "marketplace GPUs",
}


@dataclass(frozen=True, slots=True)
class _Machine:
    device: Device
    count: int
    rent: DeviceRent
    prices: PriceList
    file: str

    @property
    def usd_per_hour(self) -> float:
        return self.count * self.rent.usd_per_hour

    @property
    def node_id(self) -> str:
        times = f"{self.count}x-" if self.count > 1 else ""
        return f"{self.prices.id}-{times}{self.device.id}"

    @property
    def usd_per_bandwidth(self) -> float:
        return self.usd_per_hour / (self.count * self.device.memory_bytes_per_s)


def rented(entry: RentEntry, problem: Problem, known: Catalogue) -> Offer | Unavailable:
    """The machines that the lists let."""
    engine = card(known, "engines", entry.engine, Engine)
    quants = schemes(known, entry.quants or _schemes(known, problem), problem, engine)
    types = list(_machines(entry, problem, known, engine, quants))
    if not types:
        return Unavailable(NAMES[entry.kind], "no machine on the price lists holds the model")
    chosen = _types(types, entry.types)
    churn = card(known, "churn", CHURN[entry.kind], Churn)
    nodes = [_node(one, churn.id, entry.kind) for one in chosen]
    links: list[Link] = []
    for one in chosen:
        links += _cloud_links(known, problem, one)
    devices = tuple({one.device.id: one.device for one in chosen}.values())
    made = assembled(problem, engine, quants, devices, nodes, links, (churn,))
    if entry.kind != "market":
        serving = made.serving.model_copy(update={"verification": None})
        made = made.model_copy(update={"serving": serving})
    return Offer(NAMES[entry.kind], entry.kind, made, tuple(_tag(one) for one in chosen))


def _schemes(known: Catalogue, problem: Problem) -> tuple[str, ...]:
    """Quantizations that keep as much of the quality as is asked; all bits where none does."""
    asked = problem.requirements.must_have.quality
    if asked is None:
        return _SCHEMES
    kept = []
    for name in _SCHEMES:
        quality = card(known, "quants", name, QuantScheme).quality_for(problem.model.family)
        if quality is not None and quality >= asked:
            kept.append(name)
    return tuple(kept) or ("bf16",)


def _machines(
    entry: RentEntry,
    problem: Problem,
    known: Catalogue,
    engine: Engine,
    quants: Sequence[QuantScheme],
) -> Iterator[_Machine]:
    """The cheapest machine of each card and provider that holds the model."""
    for name in entry.prices or known.names("prices"):
        prices, path = known.get_as("prices", name, PriceList)
        cheapest: dict[str, DeviceRent] = {}
        for rent in prices.devices:
            wanted = not entry.devices or rent.device in entry.devices
            best = cheapest.get(rent.device)
            if (
                rent.kind == entry.kind
                and wanted
                and (best is None or rent.usd_per_hour < best.usd_per_hour)
            ):
                cheapest[rent.device] = rent
        for rent in cheapest.values():
            device = card(known, "devices", rent.device, Device)
            count = smallest(problem, engine, device, quants, COUNTS)
            if count is not None:
                yield _Machine(device, count, rent, prices, str(path))


def _types(found: Sequence[_Machine], most: int) -> list[_Machine]:
    """The cheapest machine, then the one with the most bandwidth for its price, and so on."""
    by_price = sorted(found, key=lambda one: (one.usd_per_hour, one.prices.id, one.device.id))
    by_speed = sorted(found, key=lambda one: (one.usd_per_bandwidth, one.prices.id, one.device.id))
    mixed = [one for pair in zip(by_price, by_speed, strict=True) for one in pair]
    return list({one.node_id: one for one in mixed}.values())[:most]


def _node(one: _Machine, churn: str, kind: RentKind) -> Node:
    return Node(
        id=one.node_id,
        device=one.device.id,
        count=one.count,
        region=one.prices.id,
        zone=one.prices.id if kind == "spot" else "",
        usd_per_hour=one.usd_per_hour,
        billed_by_s=one.prices.billed_by_s,
        start_up_s=one.prices.start_up_s,
        trust="rented",
        churn=churn,
    )


def _tag(one: _Machine) -> PriceTag:
    value = f"{one.rent.usd_per_hour:.4g} USD/h"
    if one.count > 1:
        value += f" x {one.count}"
    return PriceTag(
        what=f"{one.prices.provider} {one.device.id} {one.rent.kind}",
        value=value,
        as_of=one.rent.as_of or one.prices.as_of,
        source=one.rent.source or one.prices.source,
        file=one.file,
        node=one.node_id,
    )


def _cloud_links(known: Catalogue, problem: Problem, one: _Machine) -> list[Link]:
    """Between the user and a provider, at the provider's price for what leaves it."""
    outside = card(known, "networks", "cloud-to-internet", Network)
    inside = card(known, "networks", "cloud-same-zone", Network)
    free: dict[str, object] = {
        "usd_per_byte": 0.0,
        "free_bytes_per_month": 0.0,
        "tier": "",
        "egress_steps": (),
    }
    listed = next((row for row in one.prices.transfer if row.path == "internet"), None)
    charged = free
    if listed is not None:
        charged = {
            "usd_per_byte": listed.usd_per_byte,
            "free_bytes_per_month": listed.free_bytes_per_month,
            "tier": f"{one.prices.provider} to the internet",
            "egress_steps": listed.egress_steps,
        }
    there, home = REGION + one.prices.id, problem.cluster.coordinator
    return [
        link(there, home, outside, charged),
        link(home, there, outside, free),
        link(there, there, inside, free),
    ]
