"""What ``planner show`` prints: a scenario or a manifest with every name resolved."""

from __future__ import annotations

from typing import Any

from planner.core.cluster import Link
from planner.core.problem import Problem
from planner.files.alternatives import Api
from planner.files.manifest import Manifest
from planner.files.offers import Offer, Unavailable
from planner.files.readable import readable
from planner.files.scenario import Scenario


def shown(target: Scenario | Manifest) -> dict[str, Any]:
    """Plain data, dimensions with their units; defaults left out."""
    if isinstance(target, Manifest):
        values: dict[str, Any] = readable(target, brief=True)
        return values | {"problem": resolved(target.problem)}
    return {
        "name": target.name,
        "description": target.description,
        "problem_digest": target.problem.digest,
        "problem": resolved(target.problem),
        "alternatives": [_alternative(one) for one in target.alternatives],
        "sources": {name: str(path) for name, path in target.sources.items()},
        "warnings": list(target.warnings),
    }


def _alternative(one: Scenario | Api | Offer | Unavailable) -> dict[str, Any]:
    """An alternative with the prices it rests on."""
    if isinstance(one, Scenario):
        return {"scenario": str(one.path)}
    if isinstance(one, Unavailable):
        return {"name": one.name, "unavailable": one.reason}
    tags = [one.tag] if isinstance(one, Api) else one.tags
    prices = [tag.document() for tag in tags]
    price: dict[str, Any] = readable(one.price) if isinstance(one, Api) else {"name": one.name}
    return price | {"prices": prices}


def resolved(problem: Problem) -> dict[str, Any]:
    """A problem as plain data, with the line that each pair of machines really has."""
    values: dict[str, Any] = readable(problem, brief=True)
    values["cluster"]["lines"] = [_line(link) for link in pair_links(problem)]
    return values


def pair_links(problem: Problem, most: int = 400) -> list[Link]:
    """The links between the machines a plan may use, at most ``most`` of them."""
    cluster = problem.cluster
    ids = [node.id for node in cluster.nodes if node.device or node.id == cluster.coordinator]
    found = []
    for src in ids:
        for dst in ids:
            link = cluster.link(src, dst)
            if link is not None:
                found.append(link)
            if len(found) == most:
                return found
    return found


def _line(link: Link) -> dict[str, Any]:
    values: dict[str, Any] = readable(link, brief=True)
    return {"from": values.pop("src"), "to": values.pop("dst"), **values}
