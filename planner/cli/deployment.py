"""Where ``planner run`` goes: the nodes of an inventory, made ready, or a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.cli import console
from planner.cli.extra import needs

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.core.problem import Problem
    from planner.files.inventory import Inventory
    from planner.run.identity import Keys
    from planner.run.messages import Prepared
    from planner.run.places import Place
    from planner.run.remote import Provision, RemotePlace

_NOBODY = "0" * 64
"""Fingerprint of a node without keys."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Nodes that have their weights and wait for work."""

    places: Mapping[str, RemotePlace]
    startup: dict[str, dict[str, Any]]
    """By node: bytes and seconds of getting ready, and what was predicted of them."""

    def text(self) -> list[str]:
        """What was done to get ready, a line for each node."""
        return [
            f"{node}: {one['found_bytes'] / 1e6:.1f} MB of weights were there, "
            f"{one['pulled_bytes'] / 1e6:.1f} MB pulled in {one['seconds']:.2f} s "
            f"(predicted for all of it: {one['predicted_bytes'] / 1e6:.1f} MB, "
            f"{one['predicted_seconds']:.2f} s)"
            for node, one in self.startup.items()
        ]


def deploy(
    inventory_path: Path, manifest: Path, problem: Problem, plan: Plan, checkpoint: Path
) -> Deployment:
    """Has every node of a plan get its weights; raises InvalidFileError, RunError.

    The first pipeline gets them from here if it lacks them, replicas and standbys from its nodes.
    """
    from planner.files.inventory import check_nodes, read_inventory

    with needs("verify", "planner run --nodes"):
        from planner.run.identity import read_keys
        from planner.run.remote import prepare
    inventory = read_inventory(inventory_path)
    names = list(dict.fromkeys([*plan.nodes, *(standby.node for standby in plan.standbys)]))
    check_nodes(inventory, inventory_path, names)
    keys = None
    if inventory.keys is not None:
        keys = read_keys(inventory_path.parent / inventory.keys)
    places = {name: _place(inventory, name, keys) for name in names}
    order = _order(manifest, plan, checkpoint, keys)
    total = sum(blob.size_bytes for blob in order.supplies.pieces.blobs)
    done: dict[str, int] = {}
    with console.progress("weights", total * len(names), "B") as advance:

        def progress(node: str, done_bytes: int, _total: int) -> None:
            advance(done_bytes - done.get(node, 0))
            done[node] = done_bytes

        first = {name: places[name] for name in plan.pipelines[0].nodes}
        rest = {name: place for name, place in places.items() if name not in first}
        ranges = _ranges(plan)
        prepared = prepare(first, order, progress, ranges=ranges)
        have = tuple(place.source for place in first.values())
        prepared |= prepare(rest, order, progress, have, ranges)
    return Deployment(places, _startup(problem, plan, prepared))


@contextmanager
def on_ray(
    plan: Plan, checkpoint: Path, threads: int | None, address: str | None
) -> Iterator[dict[str, Place]]:
    """Places by node of a plan, as actors; raises RunError."""
    from planner.run.checkpoint import open_checkpoint
    from planner.run.node import Compute

    with needs("verify", "planner run --engine ray"):
        from planner.run.rayplaces import ray_places
    with ray_places(plan, open_checkpoint(checkpoint), Compute(threads or 1), address) as places:
        yield places


def _ranges(plan: Plan) -> dict[str, tuple[tuple[int, int], ...]]:
    """Layers whose weights each node has from the start; cold standbys get theirs when needed."""
    found: dict[str, list[tuple[int, int]]] = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            found.setdefault(stage.node, []).append((stage.start, stage.stop))
    for standby in plan.standbys:
        stage = plan.pipelines[standby.pipeline].stages[standby.stage]
        if standby.state != "cold":
            found.setdefault(standby.node, []).append((stage.start, stage.stop))
    return {name: tuple(dict.fromkeys(ranges)) for name, ranges in found.items()}


def _place(inventory: Inventory, name: str, keys: Keys | None) -> RemotePlace:
    from planner.core.errors import RunError
    from planner.run.messages import Source
    from planner.run.remote import RemotePlace

    entry = inventory.nodes[name]
    if keys is not None and entry.key is None:
        raise RunError(
            f"the inventory pins no key of node {name}", "planner node init writes its fingerprint"
        )
    source = Source(node=name, host=entry.host, port=entry.port, fingerprint=entry.key or _NOBODY)
    return RemotePlace(source, keys)


def _order(manifest: Path, plan: Plan, checkpoint: Path, keys: Keys | None) -> Provision:
    """What nodes are asked for: what the operator signed, or all of it where nobody has keys."""
    from planner.files.warrant import read_signed, warrant_for
    from planner.run.blobs import list_pieces, recipes
    from planner.run.checkpoint import open_checkpoint
    from planner.run.messages import canonical
    from planner.run.remote import Provision, Supplies
    from planner.run.warrant import Signed

    opened = open_checkpoint(checkpoint)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", checkpoint.resolve().name).lstrip(".-_") or "checkpoint"
    if keys is not None:
        kept = read_signed(manifest)
        return Provision(kept.signed, Supplies(kept.pieces, recipes(opened)), name)
    pieces = list_pieces(opened)
    warrant = warrant_for(manifest, plan, pieces, "0" * 16, 1, 2**53)
    unsigned = Signed(canonical(warrant.model_dump(mode="json")).decode(), "0" * 128)
    return Provision(unsigned, Supplies(pieces, recipes(opened)), name)


def _startup(
    problem: Problem, plan: Plan, prepared: Mapping[str, Prepared]
) -> dict[str, dict[str, Any]]:
    from planner.core.cost.loading import first_load

    sizes, seconds = first_load(problem, plan)
    home = problem.cluster.coordinator
    return {
        node: {
            "found_bytes": one.found_bytes,
            "pulled_bytes": one.pulled_bytes,
            "seconds": one.seconds,
            "predicted_bytes": sizes.get((home, node), 0.0),
            "predicted_seconds": seconds.get(node, 0.0),
        }
        for node, one in prepared.items()
    }
