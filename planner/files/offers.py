"""Offers: problems made from price lists with a scenario's model and requests."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from planner.core.cluster import Churn, Cluster, Line, Link, Node
from planner.core.cost.memory import stage_memory
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.prices import RentKind
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.spec import Card
from planner.files.catalogue import Catalogue, Kind
from planner.files.names import scheme_of

C = TypeVar("C", bound=Card)


@dataclass(frozen=True, slots=True)
class PriceTag:
    """A price that was used, and where it is from."""

    what: str
    value: str
    as_of: datetime.date
    source: str
    file: str
    node: str = ""
    """Machine it is the price of; empty where all use it."""

    def document(self) -> dict[str, str]:
        """The JSON object of this price."""
        return {
            "what": self.what,
            "value": self.value,
            "as_of": str(self.as_of),
            "source": self.source,
            "file": self.file,
        }


@dataclass(frozen=True, slots=True)
class Offer:
    """Machines from price lists, as a problem of their own."""

    name: str
    kind: Literal[RentKind, "own"]
    problem: Problem
    tags: tuple[PriceTag, ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """An alternative that there is not, and why."""

    name: str
    reason: str


def smallest(
    problem: Problem,
    engine: Engine,
    device: Device,
    quants: Sequence[QuantScheme],
    counts: Iterable[int],
) -> int | None:
    """The fewest cards that hold the model and one longest request; None if that is too many.

    Schemes that the engine has no constants for on the card do not count.
    """
    layers = problem.model.num_hidden_layers
    needed = []
    for quant in quants:
        if not _calibrated(engine, device, quant):
            return None
        memory = stage_memory(
            problem.model,
            0,
            layers,
            quant,
            engine,
            1,
            problem.tokens_per_request,
            problem.workload.longest_prompt_tokens,
        )
        needed.append(memory.total_bytes)
    room = device.memory_bytes * engine.memory_fraction
    return next((count for count in counts if count * room >= min(needed)), None)


def _calibrated(engine: Engine, device: Device, quant: QuantScheme) -> bool:
    try:
        engine.calibration(device).for_quant(quant.id, quant.compute_dtype)
    except ValueError:
        return False
    return True


def link(src: str, dst: str, line: Line, changes: dict[str, object]) -> Link:
    """A line of a kind between two ends, some of its figures changed."""
    figures = {name: getattr(line, name) for name in Line.model_fields} | changes
    return Link.model_validate({"src": src, "dst": dst, **figures})


def schemes(
    known: Catalogue, names: Sequence[str], problem: Problem, engine: Engine
) -> list[QuantScheme]:
    """Schemes by name; a model that is published in few bits stays in them."""
    found = []
    for name in names:
        scheme = scheme_of(known, name, problem.model.id, engine.id) or name
        found.append(card(known, "quants", scheme, QuantScheme))
    return list({scheme.id: scheme for scheme in found}.values())


def assembled(
    problem: Problem,
    engine: Engine,
    quants: Sequence[QuantScheme],
    devices: Sequence[Device],
    nodes: Sequence[Node],
    links: Sequence[Link],
    churn: Sequence[Churn],
) -> Problem:
    """The scenario's requests on other machines.

    Requests still enter where they did; that place holds no layers, drafts nothing and costs
    nothing.
    """
    home = problem.cluster.node(problem.cluster.coordinator)
    bare = Node(id=home.id, region=home.region).model_dump(exclude={"id", "region"})
    own = home.model_copy(update=bare)
    serving = problem.serving.model_copy(
        update={"speculation": None, "max_num_seqs": None, "return_path": "direct"}
    )
    must = problem.requirements.must_have.model_copy(update={"regions": None, "forbid_regions": ()})
    values = {name: getattr(problem, name) for name in Problem.model_fields} | {
        "cluster": Cluster(
            devices=tuple(devices),
            nodes=(own, *nodes),
            links=tuple(links),
            churn=tuple(churn),
            coordinator=own.id,
        ),
        "engine": engine,
        "quants": tuple(quants),
        "serving": serving,
        "requirements": problem.requirements.model_copy(update={"must_have": must}),
    }
    return Problem.model_validate(values)


def card(known: Catalogue, kind: Kind, name: str, of: type[C]) -> C:
    """The card of that name; raises InvalidFileError."""
    return known.get_as(kind, name, of)[0]
