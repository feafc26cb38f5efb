"""Node, Link, Network and Cluster: the machines, and what lies between them."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator, model_validator

from planner.core.device import Device
from planner.core.spec import Card, Spec
from planner.core.units import (
    Bytes,
    BytesPerSecond,
    Count,
    Fraction,
    Positive,
    Seconds,
    Usd,
    UsdPerByte,
    UsdPerHour,
    UsdPerJoule,
)

ANYWHERE = "*"
REGION = "region:"


class Window(Spec):
    """A time at which nodes are taken away on purpose."""

    start_s: Seconds = Field(alias="start")
    """When it begins for the first time."""
    length_s: Seconds = Field(alias="length", gt=0)
    every_s: Seconds | None = Field(default=None, alias="every")
    """From one beginning to the next; None for once."""

    @model_validator(mode="after")
    def _apart(self) -> Window:
        if self.every_s is not None and self.every_s <= self.length_s:
            raise ValueError("every must be longer than length")
        return self


class Churn(Card):
    """How long a node stays and how long it is away."""

    distribution: Literal["exponential", "weibull", "recorded", "planned"]
    """Of times up and away; ``planned`` nodes go for maintenance only."""
    up_scale_s: Seconds = Field(default=0.0, alias="up_scale")
    """Scale of the time a node stays up (the mean, for exponential)."""
    up_shape: Positive = 1.0
    """Weibull shape; below 1 means that young sessions end soonest."""
    down_scale_s: Seconds = Field(default=0.0, alias="down_scale")
    down_shape: Positive = 1.0
    always_on: Fraction = 0.0
    """Share of such nodes that never leave."""
    recorded: tuple[bool, ...] = ()
    """Whether the node was there, step by step; repeats after its end."""
    step_s: Seconds = Field(default=0.0, alias="step")
    """How long each recorded step lasts."""
    maintenance: tuple[Window, ...] = ()
    """Times at which such nodes go as well."""
    notice_s: Seconds = Field(default=0.0, alias="notice")
    """How long before it goes a node says so, as spot instances do; 0 for none."""
    dud: Fraction = 0.0
    """Share of rentals that never work: of those that begin when a node comes back."""
    dud_after_s: Seconds = Field(default=0.0, alias="dud_after")
    """How long such a one is paid for until another is tried."""

    @model_validator(mode="after")
    def _complete(self) -> Churn:
        if self.dud == 1:
            raise ValueError("dud must be below 1; no such node would ever work")
        if self.dud and not self.dud_after_s:
            raise ValueError("dud needs dud_after: how long such a rental is paid for")
        if math.fsum(one.length_s / one.every_s for one in self.maintenance if one.every_s) >= 1:
            raise ValueError("maintenance leaves no time at which such nodes are there")
        if self.distribution == "planned":
            if not self.maintenance or self.recorded or self.up_scale_s or self.down_scale_s:
                raise ValueError("planned churn needs maintenance: [...] and no scales")
        elif self.distribution == "recorded":
            if not self.recorded or not self.step_s:
                raise ValueError("recorded churn needs recorded: [true, false, ...] and step:")
        elif self.recorded or not self.up_scale_s or not self.down_scale_s:
            raise ValueError(f"{self.distribution} churn needs up_scale and down_scale above zero")
        return self


class Node(Spec):
    """A machine that can hold layers; without a device it only coordinates."""

    id: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    device: str | None = None
    """Device id; None for a host that holds no layers."""
    count: Count = 1
    """Devices of that kind in the node, used together by tensor parallelism."""
    region: str = "home"
    zone: str = ""
    """Nodes of one zone and one churn profile go and come together."""
    host: str = ""
    """Nodes of one host share its cores; empty for a machine of its own."""
    usd_per_hour: UsdPerHour = Field(default=0.0, alias="price")
    """Rent of the whole node."""
    billed_by_s: Seconds = Field(default=0.0, alias="billed_by")
    """Increment to which every rental is rounded up; 0 where seconds are billed."""
    start_up_s: Seconds = Field(default=0.0, alias="start_up")
    """From when rent is paid until the node can load weights: boot, image, queue."""
    purchase_usd: Usd = Field(default=0.0, alias="purchase")
    """What an own machine cost, spread over its lifetime; 0 for one that is paid for."""
    lifetime_s: Seconds = Field(default=3 * 365.25 * 86400.0, alias="lifetime", gt=0)
    """How long an own machine is used before it is worth nothing."""
    usd_per_joule: UsdPerJoule = Field(default=0.0, alias="electricity")
    """Price of energy where the user pays it."""
    uplink_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="uplink")
    """What the node can send in all; None where only the links limit it."""
    downlink_bytes_per_s: BytesPerSecond | None = Field(default=None, alias="downlink")
    memory_bytes: Bytes | None = Field(default=None, alias="memory")
    """Memory of each device that may be used, where it is less than the device has."""
    trust: Literal["own", "rented", "unknown"] = "own"
    churn: str | None = None
    """Churn profile id; None for a node that stays."""

    @field_validator("uplink_bytes_per_s", "downlink_bytes_per_s")
    @classmethod
    def _not_zero(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("must be above zero; leave it out where only the links limit it")
        return value

    @property
    def hardware_usd_per_hour(self) -> float:
        """The price of an own machine for an hour of its lifetime."""
        return self.purchase_usd * 3600 / self.lifetime_s


class EgressStep(Spec):
    """The price of bytes beyond a volume in a month."""

    above_bytes: Bytes = Field(alias="above")
    """Volume of the month that is charged at other prices, the free part included."""
    usd_per_byte: UsdPerByte = Field(alias="egress")


class Line(Spec):
    """What lies between two machines, in one direction."""

    one_way_latency_s: Seconds = Field(alias="one_way_latency")
    bytes_per_s: BytesPerSecond = Field(alias="bandwidth")
    jitter_s: Seconds = Field(default=0.0, alias="jitter")
    """Standard deviation of the one-way latency."""
    loss: Fraction = 0.0
    """Share of segments lost at random, which limits what one connection reaches."""
    window_bytes: Bytes | None = Field(default=None, alias="window", gt=0)
    """Most bytes one connection has under way (its socket buffer); None where it grows freely."""
    initial_window_bytes: Bytes | None = Field(default=None, alias="initial_window", gt=0)
    """What a connection that was idle sends before the first answer; None where it stays warm."""
    relay_s: Seconds = Field(default=0.0, alias="relay")
    """Software on the way, such as a tunnel in user space."""
    usd_per_byte: UsdPerByte = Field(default=0.0, alias="egress")
    """What the sender's provider charges."""
    tier: str = ""
    """Name under which the provider bills it: lines of one tier share allowance and volume."""
    free_bytes_per_month: Bytes = Field(default=0.0, alias="egress_free")
    """What the tier may send in a month before anything is charged."""
    egress_steps: tuple[EgressStep, ...] = ()
    """Other prices beyond some volume, the smallest volume first."""

    @field_validator("bytes_per_s")
    @classmethod
    def _not_zero(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("bandwidth must be above zero; leave the link out if there is none")
        return value


class Network(Line, Card):
    """A kind of line, such as home fibre, that the links of a scenario can name."""


class Link(Line):
    """A directed path; its ends are node ids, ``region:NAME`` or ``*`` for any."""

    src: str
    dst: str

    @model_validator(mode="after")
    def _no_loop(self) -> Link:
        if self.src == self.dst and self.src != ANYWHERE and not self.src.startswith(REGION):
            raise ValueError(f"a link from {self.src} to itself; a node reaches itself at no cost")
        return self


class Cluster(Spec):
    """Nodes, the devices they have and the links between them."""

    devices: tuple[Device, ...]
    nodes: tuple[Node, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    churn: tuple[Churn, ...] = ()
    coordinator: str
    """Id of the node at which requests enter and tokens leave."""
    coordinators: tuple[str, ...] = ()
    """Nodes of which a plan chooses the coordinator; none where it is settled."""

    @model_validator(mode="after")
    def _names_resolve(self) -> Cluster:
        ids = [node.id for node in self.nodes]
        if len(set(ids)) != len(ids):
            twice = sorted({name for name in ids if ids.count(name) > 1})
            raise ValueError(f"node ids must differ; used twice: {', '.join(twice)}")
        for name in self.seats:
            if name not in ids:
                raise ValueError(f"coordinator {name!r} is no node")
        regions = {REGION + node.region for node in self.nodes}
        known = set(ids) | regions | {ANYWHERE}
        for link in self.links:
            for end in (link.src, link.dst):
                if end not in known and not end.startswith(REGION):
                    raise ValueError(f"link {link.src} -> {link.dst}: {end!r} is no node")
        return self

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _devices(self) -> dict[str, Device]:
        return {device.id: device for device in self.devices}

    @cached_property
    def _churn(self) -> dict[str, Churn]:
        return {profile.id: profile for profile in self.churn}

    @cached_property
    def _links(self) -> dict[tuple[str, str], Link]:
        return {(link.src, link.dst): link for link in self.links}

    @cached_property
    def _resolved(self) -> dict[tuple[str, str], Link | None]:
        return {}

    @property
    def seats(self) -> tuple[str, ...]:
        """Nodes at which the coordinator may sit: one where that is settled."""
        return self.coordinators or (self.coordinator,)

    def node(self, node_id: str) -> Node:
        """The node of that id; raises KeyError."""
        return self._nodes[node_id]

    def device(self, node_id: str) -> Device:
        """The device of a node; raises KeyError for a host without one."""
        name = self._nodes[node_id].device
        if name is None:
            raise KeyError(f"node {node_id} has no device")
        return self._devices[name]

    def churn_of(self, node_id: str) -> Churn | None:
        """How a node comes and goes; None for one that stays. Raises KeyError."""
        name = self._nodes[node_id].churn
        return self._churn[name] if name else None

    @property
    def workers(self) -> tuple[Node, ...]:
        """The nodes that can hold layers."""
        return tuple(node for node in self.nodes if node.device is not None)

    def connected(self, src: str, dst: str) -> bool:
        """Whether ``src`` can send to ``dst``; a node reaches itself."""
        return src == dst or self._path(src, dst) is not None

    def link(self, src: str, dst: str) -> Link | None:
        """The path between two nodes, narrowed by their own connections; None to itself.

        The most specific entry wins: node pair, then node and region, then region pair, then
        ``*``. Raises LookupError where there is no path.
        """
        if src == dst:
            return None
        found = self._path(src, dst)
        if found is None:
            raise LookupError(f"no link from {src} to {dst}")
        return found

    def _path(self, src: str, dst: str) -> Link | None:
        key = (src, dst)
        if key not in self._resolved:
            self._resolved[key] = self._resolve(src, dst)
        return self._resolved[key]

    def _resolve(self, src: str, dst: str) -> Link | None:
        a, b = self._nodes[src], self._nodes[dst]
        ends_a = (src, REGION + a.region, ANYWHERE)
        ends_b = (dst, REGION + b.region, ANYWHERE)
        ranked = sorted(
            ((i + j, i, x, y) for i, x in enumerate(ends_a) for j, y in enumerate(ends_b)),
        )
        found = next((self._links[x, y] for _, _, x, y in ranked if (x, y) in self._links), None)
        if found is None:
            return None
        rates = [found.bytes_per_s, a.uplink_bytes_per_s, b.downlink_bytes_per_s]
        narrowest = min(rate for rate in rates if rate is not None)
        return found.model_copy(update={"src": src, "dst": dst, "bytes_per_s": narrowest})
