"""Widen: what to allow or to add where nothing can hold the model as it is asked.

Tried one after another, the smallest change first: a lower quality, more regions, less trusted
nodes, then copies of nodes that are there. A change counts only if the search finds a plan with it.
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
from planner.plan.infeasible import NoPlanError
from planner.plan.mend import Mend, Search, bounded, outward, with_must
from planner.plan.predict import predict
from planner.plan.room import capacity_bytes, needs
from planner.plan.solution import Candidate, Solution

_KINDS = 8
"""Kinds of nodes of which copies are tried, the cheapest way first."""
_MORE = 3
"""Copies beyond what the missing bytes ask for that are tried."""


def widened(problem: Problem, error: NoPlanError, search: Search) -> NoPlanError:
    """The error with the smallest change that makes a plan possible, and that plan."""
    for mend in _changes(problem):
        try:
            found = search(mend.applied)
        except NoPlanError:
            continue
        if found:
            hint = f"{error.hint}; the smallest change that makes a plan possible: {mend.text}"
            nearest = _solution(mend.applied, found[0])
            return NoPlanError(error.constraint, error.message, hint, nearest, mend)
    return error


def _solution(problem: Problem, best: Candidate) -> Solution:
    return Solution(
        plan=best.plan,
        prediction=predict(problem, best.plan),
        value=best.value,
        bound=best.value,
        gap=0.0,
        solver="nearest miss",
    )


def _changes(problem: Problem) -> Iterator[Mend]:
    if not by_drafts(problem):
        text = "draft nothing: leave draft and serving.speculation out"
        yield Mend("draft", problem.draft and problem.draft.id, None, text, drafting(problem, 0))
        return
    yield from _quality(problem)
    yield from _regions(problem)
    yield from _trust(problem)
    yield from _copies(problem)


def _quality(problem: Problem) -> Iterator[Mend]:
    """The next lower quality that a scheme is known to keep, then any quality."""
    floor = problem.requirements.must_have.quality
    if floor is None:
        return
    known = {quant.quality_for(problem.model.family) for quant in problem.quants}
    for value in sorted({one for one in known if one is not None and one < floor}, reverse=True):
        yield bounded(problem, "quality", outward(value, up=False))
    free = with_must(problem, "quality", None)
    yield Mend("quality", floor, None, "leave must_have.quality out", free)


def _regions(problem: Problem) -> Iterator[Mend]:
    """One more region, then all."""
    must = problem.requirements.must_have
    every = sorted({node.region for node in problem.cluster.workers})
    if must.regions is not None:
        others = [name for name in every if name not in must.regions]
        for more in [*([name] for name in others), others]:
            value = (*must.regions, *more)
            text = f"allow {_list(more)} in must_have.regions"
            yield Mend("regions", must.regions, value, text, with_must(problem, "regions", value))
    barred = [name for name in must.forbid_regions if name in every]
    for more in [*([name] for name in barred), barred]:
        value = tuple(name for name in must.forbid_regions if name not in more)
        text = f"take {_list(more)} out of must_have.forbid_regions"
        free = with_must(problem, "forbid_regions", value)
        yield Mend("forbid_regions", must.forbid_regions, value, text, free)


def _trust(problem: Problem) -> Iterator[Mend]:
    """Less and less trusted nodes."""
    asked = problem.requirements.must_have.trust
    for value in TRUST[: TRUST.index(asked)][::-1] if asked else ():
        text = f"lower must_have.trust from {asked} to {value}"
        yield Mend("trust", asked, value, text, with_must(problem, "trust", value))


def _copies(problem: Problem) -> Iterator[Mend]:
    """More nodes of a kind that is there, the cheapest lot first."""
    nodes, layers = allowed_nodes(problem), problem.model.num_hidden_layers
    if not nodes:
        return
    least_drafts = by_drafts(problem)[0]
    room = sum(capacity_bytes(least_drafts, node.id) for node in nodes)
    need = min(needs(problem, 0, layers, quant.id, 1).total_bytes for quant in problem.quants)
    lots = []
    for entry in node_classes(problem):
        each = capacity_bytes(least_drafts, entry.example)
        if each <= 0:
            continue
        least = max(1, math.ceil((need - room) / each))
        usd = problem.cluster.node(entry.example).usd_per_hour
        lots += [((least + more) * usd, least + more, entry.example) for more in range(_MORE)]
    for _, count, name in sorted(lots)[: _KINDS * _MORE]:
        nodes_now = len(problem.cluster.nodes)
        text = f"add {count} node{'s' if count > 1 else ''} like {name}"
        value = {"like": name, "add": count}
        yield Mend("nodes", nodes_now, value, text, _with_copies(problem, name, count))


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
