"""What a scenario file may say, key by key, before any name in it is looked up."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from planner.core.cluster import EgressStep, Line, Node
from planner.core.deployment import Deployment
from planner.core.finetune import FineTune
from planner.core.prefix import PrefixCache
from planner.core.prices import RentKind
from planner.core.problem import Serving
from planner.core.requirements import MustHave, Objective, Wish
from planner.core.spec import Spec
from planner.core.units import (
    Bytes,
    BytesPerSecond,
    Count,
    Fraction,
    Positive,
    Seconds,
    UsdPerByte,
    UsdPerJoule,
)
from planner.core.workload import Workload
from planner.files.runsection import RunSection

SCHEMA_VERSION = "1.0"


class NodeEntry(Node):
    """A machine, or several equal ones."""

    replicas: Annotated[Count, Field(le=1000)] = 1
    """How many such machines; they are named ID-1, ID-2, ..."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the machines it stands for."""
        if self.replicas == 1:
            return (self.id,)
        return tuple(f"{self.id}-{number}" for number in range(1, self.replicas + 1))


class LineEntry(Spec):
    """A line: a network profile, or its own figures, or a profile with some figures changed."""

    profile: str | None = None
    """Name of a network profile."""
    one_way_latency_s: Seconds | None = Field(default=None, alias="one_way_latency")
    bytes_per_s: BytesPerSecond | None = Field(default=None, alias="bandwidth")
    jitter_s: Seconds | None = Field(default=None, alias="jitter")
    loss: Fraction | None = None
    window_bytes: Bytes | None = Field(default=None, alias="window", gt=0)
    initial_window_bytes: Bytes | None = Field(default=None, alias="initial_window", gt=0)
    relay_s: Seconds | None = Field(default=None, alias="relay")
    usd_per_byte: UsdPerByte | None = Field(default=None, alias="egress")
    tier: str | None = None
    free_bytes_per_month: Bytes | None = Field(default=None, alias="egress_free")
    egress_steps: tuple[EgressStep, ...] | None = None

    @field_validator("bytes_per_s")
    @classmethod
    def _not_zero(cls, value: float | None) -> float | None:
        if value == 0:
            raise ValueError("bandwidth must be above zero; leave the link out if there is none")
        return value

    @model_validator(mode="after")
    def _complete(self) -> LineEntry:
        bare = self.profile is None
        if bare and (self.one_way_latency_s is None or self.bytes_per_s is None):
            raise ValueError("give a profile, or one_way_latency and bandwidth")
        return self

    def figures(self) -> dict[str, Any]:
        """The figures given here, by field of core's Line."""
        return {
            name: value for name in Line.model_fields if (value := getattr(self, name)) is not None
        }


def _profile_name(value: Any) -> Any:
    return {"profile": value} if isinstance(value, str) else value


class RegionEntry(LineEntry):
    """The line between any node of one region and any of another, or inside one."""

    between: tuple[str, str] | None = None
    """Two regions, both directions."""
    within: str | None = None
    """One region."""

    @model_validator(mode="after")
    def _one_place(self) -> RegionEntry:
        if (self.between is None) == (self.within is None):
            raise ValueError("give either between: [region, region] or within: region")
        return self


class NetworkEntry(Spec):
    """Lines between nodes that no link names."""

    default: Annotated[LineEntry, BeforeValidator(_profile_name)] | None = None
    """Between any two nodes: the name of a network profile, or figures."""
    regions: tuple[RegionEntry, ...] = ()


class LinkEntry(LineEntry):
    """The line between two nodes: from one to the other, or between both."""

    src: str | None = Field(default=None, alias="from")
    dst: str | None = Field(default=None, alias="to")
    between: tuple[str, str] | None = None
    """Two nodes, both directions."""

    @model_validator(mode="after")
    def _two_ends(self) -> LinkEntry:
        directed = self.src is not None and self.dst is not None
        if (self.src is None) != (self.dst is None) or directed == (self.between is not None):
            raise ValueError("give either from: and to:, or between: [node, node]")
        return self


class ApiEntry(Spec):
    """A per-token API."""

    prices: str
    """Name of a price list."""
    model: str | None = None
    """Id of the model in that list; the scenario's own where absent."""


class RentEntry(Spec):
    """Rented machines: the smallest of each kind of card that hold the model."""

    kind: RentKind
    prices: tuple[str, ...] = ()
    """Names of price lists; all there are where it is empty."""
    devices: tuple[str, ...] = ()
    """Cards to choose from; all that the lists have where it is empty."""
    engine: str = "vllm"
    quants: tuple[str, ...] = ()
    """Quantizations to choose from; those that the engine is known for where it is empty."""
    types: Annotated[Count, Field(le=6)] = 3
    """Most types of machines that are planned with: the cheapest, and the most speed for money."""


class OwnEntry(Spec):
    """Machines of one's own: their price over their lifetime, and electricity."""

    device: str | None = None
    """Card to buy; the one whose machine costs least where absent."""
    prices: str = "hardware"
    """List with purchase prices."""
    paid: bool = False
    """Whether they are there and paid for, so that only electricity is left."""
    lifetime_s: Seconds = Field(default=3 * 365.25 * 86400.0, alias="lifetime", gt=0)
    usd_per_joule: UsdPerJoule | None = Field(default=None, alias="electricity")
    """What energy costs; the region's household price where absent."""
    engine: str | None = None
    """The scenario's own where absent."""
    quants: tuple[str, ...] = ()
    """The scenario's own where it is empty."""


class AlternativeEntry(Spec):
    """Something else that could serve the same requests."""

    scenario: str | None = None
    """Another scenario file: its machines and engine serve this scenario's model and requests."""
    api: ApiEntry | None = None
    rent: RentEntry | None = None
    own: OwnEntry | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> AlternativeEntry:
        given = (self.scenario, self.api, self.rent, self.own)
        if sum(one is not None for one in given) != 1:
            raise ValueError("give one of scenario: FILE, api:, rent: and own:")
        return self


class ScenarioFile(Spec):
    """The keys of a scenario."""

    schema_version: Annotated[str, BeforeValidator(str)] = SCHEMA_VERSION
    name: str = Field(min_length=1)
    """What plans and tables call it; that of the file where absent."""
    description: str = ""
    model: str
    """Name of a model profile, or the path of a model directory with a config.json."""
    draft: str | None = None
    """The same of a small model that guesses ahead at the coordinator, for serving.speculation;
    without one guesses are looked up in the text so far."""
    engine: str
    quants: tuple[str, ...] = Field(min_length=1)
    """Quantizations the planner may choose from."""
    coordinator: str | tuple[str, ...] | None = None
    """Node at which requests enter and tokens leave; the first node where absent. ``auto``, or a
    list of nodes, leaves it to the plan."""
    nodes: tuple[NodeEntry, ...] = Field(min_length=1)
    network: NetworkEntry = NetworkEntry()
    links: tuple[LinkEntry, ...] = ()
    workload: Workload
    objective: Objective = "tpot"
    must_have: MustHave = MustHave()
    nice_to_have: dict[Wish, Positive] = Field(default_factory=dict)
    serving: Serving = Serving()
    deployment: Deployment = Deployment()
    alternatives: tuple[AlternativeEntry, ...] | None = None
    """What it is compared with; rented, own and per-token alternatives where absent."""
    finetune: FineTune | None = None
    """Adapters to be trained over the plan; None where nothing is trained."""
    prefix_cache: PrefixCache | None = None
    """A cache of common beginnings, told beside the plan; None where there is none."""
    run: RunSection | None = None
