"""Interchangeable nodes: swapping two of one class changes nothing, so only counts matter."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product

from planner.core.cluster import Node
from planner.core.cost.ledger import standing_usd_per_hour
from planner.core.problem import Problem
from planner.core.requirements import TRUST

_COMPARED = 32
"""Nodes with links of their own are compared one by one, up to so many kinds."""
_PRICES = (
    "usd_per_hour",
    "billed_by_s",
    "purchase_usd",
    "lifetime_s",
    "usd_per_joule",
)  # fmt: skip
"""What a node costs, which is felt by nothing but prices."""
_FEW = 3
"""Nodes of a class that are taken apart where each is to be remembered."""


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes with the same device and links to everybody else, and prices where those matter."""

    nodes: tuple[str, ...]
    """Ids in order; the first ones are used first."""

    @property
    def example(self) -> str:
        """A node that stands for all."""
        return self.nodes[0]


def node_classes(problem: Problem) -> tuple[NodeClass, ...]:
    """The workers that may be used, by class, in the order of the scenario.

    Nodes that no link names are alike if everything about them but their name is, and their price
    where nobody asks for it; the cheapest of a class come first.
    """
    cluster = problem.cluster
    named, seats = {end for link in cluster.links for end in (link.src, link.dst)}, cluster.seats
    ignored = _ignored(problem)
    groups: dict[object, list[Node]] = {}
    with_links: list[list[Node]] = []
    for node in allowed_nodes(problem):
        if node.id not in named:
            alike = node.model_copy(update=ignored), node.id in seats
            groups.setdefault(alike, []).append(node)
        elif len(with_links) < _COMPARED and (same := _like(problem, node, with_links, ignored)):
            same.append(node)
        else:
            alone = [node]
            groups[node.id] = alone
            with_links.append(alone)
    for group in groups.values():
        group.sort(key=lambda node: standing_usd_per_hour(problem, node))
    return tuple(NodeClass(tuple(node.id for node in group)) for group in groups.values())


def _ignored(problem: Problem) -> dict[str, object]:
    """What about a node changes nothing, with what stands for it: prices where nobody asks."""
    asked, must = problem.requirements.terms, problem.requirements.must_have
    budget = must.usd_per_hour is not None or must.usd_per_million_output_tokens is not None
    if budget or any(name.startswith("usd") for name in asked):
        return {"id": ""}
    return {"id": ""} | {name: Node.model_fields[name].default for name in _PRICES}


def few_apart(classes: tuple[NodeClass, ...]) -> tuple[NodeClass, ...]:
    """The same with classes of few nodes taken apart: chains remember single nodes they used."""
    return tuple(
        one
        for entry in classes
        for one in (
            [NodeClass((node,)) for node in entry.nodes] if len(entry.nodes) <= _FEW else [entry]
        )
    )


def _like(
    problem: Problem, node: Node, groups: list[list[Node]], ignored: dict[str, object]
) -> list[Node] | None:
    """The group whose every node can be swapped with ``node``."""
    for group in groups:
        if all(_interchangeable(problem, node, other, ignored) for other in group):
            return group
    return None


def allowed_nodes(problem: Problem) -> tuple[Node, ...]:
    """The workers in regions that the must-haves permit, trusted as they ask."""
    must = problem.requirements.must_have
    least = TRUST.index(must.trust) if must.trust else 0
    return tuple(
        node
        for node in problem.cluster.workers
        if (must.regions is None or node.region in must.regions)
        and node.region not in must.forbid_regions
        and TRUST.index(node.trust) >= least
    )


def without_nodes(problem: Problem, names: Collection[str]) -> Problem:
    """The problem without some nodes; wherever the coordinator may sit stays, without layers."""
    homes = problem.cluster.seats
    nodes = tuple(
        node.model_copy(update={"device": None}) if node.id in names else node
        for node in problem.cluster.nodes
        if node.id not in names or node.id in homes
    )
    gone = {*names} - {*homes}
    links = tuple(
        link for link in problem.cluster.links if link.src not in gone and link.dst not in gone
    )
    values = dict(problem.cluster) | {"nodes": nodes, "links": links}
    return problem.model_copy(update={"cluster": type(problem.cluster)(**values)})


def states(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All ways to use up to ``counts`` nodes of each class, fewer nodes first."""
    every = product(*(range(count + 1) for count in counts))
    return sorted(every, key=lambda used: (sum(used), used))


def _interchangeable(problem: Problem, a: Node, b: Node, ignored: dict[str, object]) -> bool:
    cluster = problem.cluster
    if (a.id in cluster.seats) != (b.id in cluster.seats):
        return False
    if a.model_copy(update=ignored) != b.model_copy(update=ignored):
        return False
    pairs = [((a.id, b.id), (b.id, a.id))]
    for other in cluster.nodes:
        if other.id not in (a.id, b.id):
            pairs += [((a.id, other.id), (b.id, other.id)), ((other.id, a.id), (other.id, b.id))]
    return all(_same_way(problem, *one, *two) for one, two in pairs)


def _same_way(problem: Problem, src: str, dst: str, other_src: str, other_dst: str) -> bool:
    cluster = problem.cluster
    if not cluster.connected(src, dst) or not cluster.connected(other_src, other_dst):
        return cluster.connected(src, dst) == cluster.connected(other_src, other_dst)
    one, two = cluster.link(src, dst), cluster.link(other_src, other_dst)
    if one is None or two is None:
        return one is two
    blank = {"src": "", "dst": ""}
    return one.model_copy(update=blank) == two.model_copy(update=blank)
