"""What must hold between the parts of a scenario, told at the key that breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.core.choice import seats_out, trusted_seats
from planner.core.cluster import Churn, Node
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.errors import FileProblem
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.core.requirements import wrong_weights
from planner.files.catalogue import Kind
from planner.files.document import Document
from planner.files.keys import did_you_mean
from planner.files.references import References
from planner.files.surface import ScenarioFile

AUTO = "auto"
"""Leaves the coordinator's seat to the plan."""
_NODE_CARDS: dict[str, Kind] = {"device": "devices", "churn": "churn"}


@dataclass(frozen=True, slots=True)
class Expanded:
    """A scenario's machines, each replica one of its own, and the cards they refer to."""

    nodes: tuple[Node, ...]
    ids: dict[str, tuple[str, ...]]
    """Machines that a node's name in the file stands for."""
    seats: tuple[str, ...]
    """Where the coordinator may sit: one node where that is settled."""
    devices: dict[str, Device]
    """By id, in order of first use."""
    churn: dict[str, Churn]
    seats_out: dict[str, str] | None
    """Why the others are no seats, where the scenario does not name them."""

    @classmethod
    def of(cls, given: ScenarioFile, cards: References) -> Expanded:
        """The machines of a scenario; the first one coordinates where none is named."""
        nodes: list[Node] = []
        ids: dict[str, tuple[str, ...]] = {}
        devices: dict[str, Device] = {}
        churn: dict[str, Churn] = {}
        for entry in given.nodes:
            values: dict[str, Any] = {name: getattr(entry, name) for name in Node.model_fields}
            if entry.device is not None:
                device = cards.card("devices", entry.device, Device)
                values["device"] = device.id
                devices.setdefault(device.id, device)
            if entry.churn is not None:
                profile = cards.card("churn", entry.churn, Churn)
                values["churn"] = profile.id
                churn.setdefault(profile.id, profile)
            nodes += [Node.model_construct(**(values | {"id": name})) for name in entry.ids]
            ids |= {entry.id: entry.ids} | {name: (name,) for name in entry.ids}
        seats, out = _seats(given, nodes, ids)
        return cls(tuple(nodes), ids, seats, devices, churn, out)


def _seats(
    given: ScenarioFile, nodes: Sequence[Node], ids: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[str, ...], dict[str, str] | None]:
    """Where the coordinator may sit: a node, the nodes of a list, or all that may see prompts.

    Of these, too, why the others may not; None where the scenario names its seats.
    """
    named = given.coordinator
    if named == AUTO and AUTO not in ids:
        drafts = given.serving.speculation
        computing = given.draft is not None and drafts is not None and not drafts.draft_token_s
        return trusted_seats(nodes, given.must_have, computing), seats_out(
            nodes, given.must_have, computing
        )
    if named is None or isinstance(named, str):
        return (named or nodes[0].id,), None
    return tuple(dict.fromkeys(one for name in named for one in ids.get(name, (name,)))), None


def check(
    given: ScenarioFile, document: Document, cards: References, expanded: Expanded
) -> tuple[list[FileProblem], list[str]]:
    """What is wrong between the parts, and what deserves a warning."""
    problems = _nodes(given, document, expanded)
    problems += _calibrations(given, document, cards, expanded)
    problems += _same_ids(given, document, cards)
    problems += _lengths(given, document, cards)
    if wrong := wrong_weights(given.objective, given.nice_to_have):
        problems.append(document.problem(("objective",), wrong))
    regions = sorted({node.region for node in expanded.nodes})
    for index, region in enumerate(given.must_have.regions or ()):
        if region not in regions:
            message = f"no node is in region {region!r}{did_you_mean(region, regions)}"
            problems.append(document.problem(("must_have", "regions", index), message))
    warnings = [
        f"must_have.forbid_regions: no node is in region {region!r}"
        for region in given.must_have.forbid_regions
        if region not in regions
    ]
    return problems, warnings


def _nodes(given: ScenarioFile, document: Document, expanded: Expanded) -> list[FileProblem]:
    counts = Counter(node.id for node in expanded.nodes)
    problems, seen = [], set()
    for index, entry in enumerate(given.nodes):
        twice = next((name for name in entry.ids if counts[name] > 1 and name in seen), None)
        if twice is not None:
            message = f"the id {twice} is used twice"
            problems.append(document.problem(("nodes", index, "id"), message))
        seen |= set(entry.ids)
    if all(node.device is None for node in expanded.nodes):
        problems.append(document.problem(("nodes",), "no node has a device to hold layers"))
    for name in expanded.seats:
        if name not in counts:
            replicas = expanded.ids.get(name, ())
            known = (*counts, AUTO)
            guess = f"; did you mean {replicas[0]}?" if replicas else did_you_mean(name, known)
            problems.append(document.problem(("coordinator",), f"{name!r} is no node{guess}"))
    if not expanded.seats and given.coordinator != AUTO:
        message = "an empty list; name nodes in it, or say auto"
        problems.append(document.problem(("coordinator",), message))
    elif not expanded.seats:
        message = (
            "no node may see the prompts: a coordinator's is rented or one's own, at least as "
            "trusted as must_have.trust asks, and in an allowed region; or name nodes in a list"
        )
        problems.append(document.problem(("coordinator",), message))
    return problems


def _calibrations(
    given: ScenarioFile, document: Document, cards: References, expanded: Expanded
) -> list[FileProblem]:
    """Devices and quantizations that the engine has no constants for."""
    engine = cards.card("engines", given.engine, Engine)
    problems = []
    for device in expanded.devices.values():
        try:
            calibration = engine.calibration(device)
        except ValueError as error:
            problems.append(document.problem(("engine",), str(error)))
            continue
        for index, quant in enumerate(given.quants):
            scheme = cards.card("quants", quant, QuantScheme)
            try:
                calibration.for_quant(scheme.id, scheme.compute_dtype)
            except ValueError as error:
                message = f"engine {engine.id} on {device.id}: {error}"
                problems.append(document.problem(("quants", index), message))
    return problems


def _same_ids(given: ScenarioFile, document: Document, cards: References) -> list[FileProblem]:
    """Cards named twice, and different cards of one id, which a plan could not tell apart."""
    problems = []
    quants = [cards.card("quants", name, QuantScheme).id for name in given.quants]
    for index, name in enumerate(quants):
        if name in quants[:index]:
            problems.append(document.problem(("quants", index), f"{name} is named twice"))
    for key, kind in _NODE_CARDS.items():
        origin: dict[str, str] = {}
        for index, node in enumerate(given.nodes):
            named = getattr(node, key)
            if named is None:
                continue
            first = origin.setdefault(cards.cards[kind, named].id, named)
            if cards.cards[kind, first] != cards.cards[kind, named]:
                message = f"{first} and {named} are different cards of one name; rename one file"
                problems.append(document.problem(("nodes", index, key), message))
    return problems


def _lengths(given: ScenarioFile, document: Document, cards: References) -> list[FileProblem]:
    """Requests that are longer than the model's context."""
    model = cards.card("models", given.model, ModelSpec)
    if given.workload.longest_tokens <= model.max_position_embeddings:
        return []
    if given.workload.sessions is not None:
        message = (
            f"sessions of up to {given.workload.longest_tokens} tokens exceed the context of "
            f"{model.id}, {model.max_position_embeddings} tokens"
        )
        return [document.problem(("workload", "sessions", "max_tokens"), message)]
    prompt, output = given.workload.prompt.max_tokens, given.workload.output.max_tokens
    key = "prompt" if prompt >= output else "output"
    message = (
        f"requests of up to {prompt} + {output} tokens exceed the context of {model.id}, "
        f"{model.max_position_embeddings} tokens"
    )
    return [document.problem(("workload", key), message)]
