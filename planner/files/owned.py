"""Own machines from a list of purchase prices, as a problem with the scenario's requests."""

from __future__ import annotations

from planner.core.cluster import Network, Node
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.prices import PriceList, Purchase
from planner.core.problem import Problem
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
from planner.files.surface import OwnEntry

_MOST_HOSTS = 4
_ELECTRICITY = {"us": "us", "eu": "europe", "asia": "asia", "home": "world", "cloud": "world"}


def owned(entry: OwnEntry, problem: Problem, known: Catalogue) -> Offer | Unavailable:
    """The cheapest own machines that hold the model."""
    engine = card(known, "engines", entry.engine, Engine) if entry.engine else problem.engine
    quants = schemes(known, entry.quants, problem, engine) if entry.quants else list(problem.quants)
    prices, path = known.get_as("prices", entry.prices, PriceList)
    offers = []
    for row in prices.purchases:
        if entry.device in (None, row.device):
            device = card(known, "devices", row.device, Device)
            counts = range(1, _MOST_HOSTS * row.per_host + 1)
            count = smallest(problem, engine, device, quants, counts)
            if count is not None:
                offers.append((row.machine_usd(count), row, device, count))
    if not offers:
        return Unavailable("own hardware", f"no card of the list {entry.prices} holds the model")
    usd, row, device, count = min(offers, key=lambda one: (one[0], one[2].id))
    home = problem.cluster.node(problem.cluster.coordinator)
    energy, tag = _electricity(entry, home.region, known)
    nodes = _own_nodes(entry, row, count, home.region, energy)
    lan = card(known, "networks", "lan-1g", Network)
    links = [link("*", "*", lan, {})]
    made = assembled(problem, engine, quants, (device,), nodes, links, ())
    bought = PriceTag(
        f"{row.condition} {device.id} x {count}",
        "paid for" if entry.paid else f"{usd:,.0f} USD with hosts",
        row.as_of or prices.as_of,
        row.source or prices.source,
        str(path),
    )
    serving = made.serving.model_copy(update={"verification": None})
    made = made.model_copy(update={"serving": serving})
    name = "own hardware, paid for" if entry.paid else "own hardware"
    return Offer(name, "own", made, (bought, *tag))


def _own_nodes(
    entry: OwnEntry, row: Purchase, count: int, region: str, usd_per_joule: float
) -> list[Node]:
    """Machines of up to ``per_host`` cards each, as few as hold them all."""
    nodes = []
    for number in range(-(-count // row.per_host)):
        cards = min(row.per_host, count - number * row.per_host)
        nodes.append(
            Node(
                id=f"own-{number + 1}",
                device=row.device,
                count=cards,
                region=region,
                purchase_usd=0.0 if entry.paid else cards * row.usd + row.host_usd,
                lifetime_s=entry.lifetime_s,
                usd_per_joule=usd_per_joule,
            )
        )
    return nodes


def _electricity(
    entry: OwnEntry, region: str, known: Catalogue
) -> tuple[float, tuple[PriceTag, ...]]:
    """What energy costs where the user is, and where that was read."""
    if entry.usd_per_joule is not None:
        return entry.usd_per_joule, ()
    prices, path = known.get_as("prices", "electricity", PriceList)
    wanted = _ELECTRICITY.get(region.split("-")[0], "world")
    row = next(
        row for row in prices.electricity if row.region == wanted and row.kind == "household"
    )
    value = f"{row.usd_per_joule * 3.6e6:.4g} USD/kWh"
    source = row.source or prices.source
    tag = PriceTag(f"electricity {wanted}", value, row.as_of or prices.as_of, source, str(path))
    return row.usd_per_joule, (tag,)
