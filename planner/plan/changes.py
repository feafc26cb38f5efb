"""Changes: what may be allowed or added where nothing can hold the model as it is asked.

The smallest change comes first: a lower quality, more regions, less trusted nodes, then copies of
nodes that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.core.choice import drafting
from planner.core.cluster import Link, Node
from planner.core.problem import Problem
from planner.core.requirements import TRUST
from planner.plan.branches import by_drafts
from planner.plan.classes import allowed_nodes, node_classes
from planner.plan.mend import Mend, bounded, outward, with_must
from planner.plan.room import capacity_bytes, needs

_KINDS = 8
"""Kinds of nodes of which copies are tried, the cheapest way first."""
_MORE = 3
"""Copies beyond what the missing bytes ask for that are tried."""


def undrafted(problem: Problem) -> Mend | None:
    """No draft, where the draft model has no room at any seat; None where it has."""
    if by_drafts(problem):
        return None
    text = "draft nothing: leave draft and serving.speculation out"
    return Mend("draft", problem.draft and problem.draft.id, None, text, drafting(problem, 0))


def lower_quality(problem: Problem) -> Iterator[Mend]:
    """The next lower quality that a scheme is known to keep, then any quality."""
    floor = problem.requirements.must_have.quality
    if floor is None:
        return
    known = {quant.quality_for(problem.model.family) for quant in problem.quants}
    for value in sorted({one for one in known if one is not None and one < floor}, reverse=True):
        yield bounded(problem, "quality", outward(value, up=False))
    free = with_must(problem, "quality", None)
    yield Mend("quality", floor, None, "leave must_have.quality out", free)


def more_regions(problem: Problem) -> Iterator[Mend]:
    """One more region, then all."""
    must = problem.requirements.must_have
    if must.regions is None:
        return
    others = [name for name in _regions(problem) if name not in must.regions]
    for more in [*([name] for name in others), others]:
        value = (*must.regions, *more)
        text = f"allow {_list(more)} in must_have.regions"
        yield Mend("regions", must.regions, value, text, with_must(problem, "regions", value))


def fewer_barred(problem: Problem) -> Iterator[Mend]:
    """One barred region less, then none barred."""
    must = problem.requirements.must_have
    barred = [name for name in must.forbid_regions if name in _regions(problem)]
    for more in [*([name] for name in barred), barred]:
        value = tuple(name for name in must.forbid_regions if name not in more)
        text = f"take {_list(more)} out of must_have.forbid_regions"
        free = with_must(problem, "forbid_regions", value)
        yield Mend("forbid_regions", must.forbid_regions, value, text, free)


def _regions(problem: Problem) -> list[str]:
    return sorted({node.region for node in problem.cluster.workers})


def less_trust(problem: Problem) -> Iterator[Mend]:
    """Less and less trusted nodes."""
    asked = problem.requirements.must_have.trust
    for value in TRUST[: TRUST.index(asked)][::-1] if asked else ():
        text = f"lower must_have.trust from {asked} to {value}"
        yield Mend("trust", asked, value, text, with_must(problem, "trust", value))


def more_nodes(problem: Problem) -> Iterator[Mend]:
    """More nodes of a kind that is there, the cheapest lot first."""
    if not allowed_nodes(problem):
        return
    lots = []
    for entry in node_classes(problem):
        least = min(_least(problem, entry.example, quant.id) for quant in problem.quants)
        if math.isinf(least):
            continue
        usd = problem.cluster.node(entry.example).usd_per_hour
        counts = (int(least) + more for more in range(_MORE))
        lots += [(count * usd, count, entry.example) for count in counts]
    for _, count, name in sorted(lots)[: _KINDS * _MORE]:
        nodes_now = len(problem.cluster.nodes)
        text = f"add {count} node{'s' if count > 1 else ''} like {name}"
        value = {"like": name, "add": count}
        yield Mend("nodes", nodes_now, value, text, _with_copies(problem, name, count))


def _least(problem: Problem, name: str, quant_id: str) -> float:
    """The fewest copies of a node with which all layers could be held; infinite if it holds none.

    As if all were as light as the lightest one; each node keeps back what any stage needs.
    """
    layers = problem.model.num_hidden_layers
    alone = [needs(problem, at, at + 1, quant_id, 1) for at in range(layers)]
    layer_bytes = min(one.weights_bytes + one.kv_bytes for one in alone)
    own_bytes = min(one.activation_bytes + one.reserve_bytes for one in alone)
    least_drafts = by_drafts(problem)[0]

    def holds(node: str) -> int:
        return max(0, math.floor((capacity_bytes(least_drafts, node) - own_bytes) / layer_bytes))

    missing = layers - sum(holds(node.id) for node in allowed_nodes(problem))
    return max(1, math.ceil(missing / holds(name))) if holds(name) else math.inf


def _with_copies(problem: Problem, name: str, count: int) -> Problem:
    """The problem with copies of a node, which have links as it has."""
    cluster = problem.cluster
    taken = {node.id for node in cluster.nodes}
    fresh = (f"{name}-more-{number}" for number in range(1, len(taken) + count + 1))
    names = [one for one in fresh if one not in taken][:count]
    nodes: list[Node] = [cluster.node(name).model_copy(update={"id": one}) for one in names]
    links: list[Link] = []
    for link in cluster.links:
        for one in names:
            ends = {end: one for end, now in (("src", link.src), ("dst", link.dst)) if now == name}
            if ends:
                links.append(link.model_copy(update=ends))
    changes = {"nodes": (*cluster.nodes, *nodes), "links": (*cluster.links, *links)}
    return problem.model_copy(update={"cluster": type(cluster)(**dict(cluster) | changes)})


def _list(names: list[str]) -> str:
    return ", ".join(names)
