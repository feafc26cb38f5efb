"""A rented machine beside an API: prices of which every crossing can be worked out by hand."""

from __future__ import annotations

from typing import Any

from planner.advice.alternative import Option
from planner.core.cluster import Churn, Cluster, Link, Node
from planner.core.plan import Plan
from planner.core.prices import TokenPrice
from planner.core.problem import Problem
from planner.core.requirements import Requirements
from planner.plan.solve import searched
from tests.core.world import CARD, link, problem

CHEAPEST = Requirements(objective="usd_per_million_output_tokens")


def machines(*nodes: Node, links: tuple[Link, ...] = (), **changes: Any) -> Problem:
    """A coordinator without layers, and the nodes given."""
    home = Node(id="home")
    values: dict[str, Any] = {"requirements": CHEAPEST} | changes
    churn = values.pop("churn", ())
    made = problem([home, *nodes], links or (link(),), **values)
    cluster = Cluster.model_validate(dict(made.cluster) | {"churn": churn})
    return made.model_copy(update={"cluster": cluster})


def flaky(hours: float = 2.0) -> Churn:
    """Stays for ``hours`` in the mean, is away for half an hour."""
    spells = {"up_scale": hours * 3600, "down_scale": 1800}
    return Churn.model_validate(CARD | {"id": "flaky", "distribution": "exponential"} | spells)


def planned(made: Problem, name: str = "mine", **changes: Any) -> Option:
    """An option with the plans that the search finds."""
    values: dict[str, Any] = {"kind": "scenario", "plans": plans(made)}
    return Option(name=name, problem=made, **(values | changes))


def plans(made: Problem) -> tuple[Plan, ...]:
    """The plans of a problem, best first."""
    return tuple(one.plan for one in searched(made))


def api(made: Problem, usd_per_mtok: float, name: str = "api", **changes: Any) -> Option:
    """An API that asks for answers only."""
    price = TokenPrice(model="tiny", input=0.0, output=usd_per_mtok / 1e6, **changes)
    return Option(name=name, kind="api", problem=made, price=price)
