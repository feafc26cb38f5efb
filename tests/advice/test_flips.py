"""Flips: planning anew just below and just above each gives different winners."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.advice.alternative import Option, predicted
from planner.advice.flips import PRECISION, Flip, best, flips
from planner.advice.lever import Lever, levers
from planner.advice.tornado import swings
from planner.core.cluster import Node
from planner.core.deployment import Deployment
from planner.core.problem import Serving
from planner.core.requirements import MustHave, Requirements
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Poisson, Workload
from tests.advice.world import CHEAPEST, api, flaky, machines, planned, plans
from tests.core.world import link


def rented(**changes: object) -> Node:
    return Node.model_validate({"id": "card", "device": "chip", "price": 1.0} | changes)


def lever(options: list[Option], name: str) -> Lever:
    return next(one for one in levers(options) if one.name == name)


def flip(options: list[Option], name: str, up: bool) -> Flip:
    (found,) = [
        one for one in flips(options, [lever(options, name)], plans) if (one.to > one.now) == up
    ]
    return found


def tokens_per_s(option: Option) -> float:
    return predicted(option).metrics.output_throughput or 0.0


def test_a_rent_flips_where_it_equals_the_price_of_the_tokens() -> None:
    mine = planned(machines(rented()))
    hourly_tokens = tokens_per_s(mine) * 3600
    dear = 3 * 1.0 / hourly_tokens * 1e6
    options = [mine, api(mine.problem, dear)]
    assert best(options) == "mine"
    found = flip(options, "rent of mine", up=True)
    assert found.inside < 3.0 < found.to <= found.inside * (1 + PRECISION) * 1.0001
    assert (found.before, found.winner, found.replanned) == ("mine", "api", True)
    assert found.distance == pytest.approx(3.0, rel=0.02)
    assert not found.near
    cheaper = flip(options, "API price", up=False)
    assert cheaper.to == pytest.approx(dear / 3 / 1e6, rel=0.011)


def test_an_idle_machine_loses_to_an_api_below_some_utilisation() -> None:
    made = machines(rented(), deployment=Deployment(in_use=0.5))
    mine = planned(made)
    full = 1.0 / (tokens_per_s(mine) * 3600) * 1e6
    options = [mine, api(made, full / 0.41)]
    assert best(options) == "mine"
    found = flip(options, "utilisation", up=False)
    assert found.to < 0.41 < found.inside
    assert found.near
    assert "api is the better choice below 41" in found.text
    assert found.text.endswith("% of the time in use, now 50")
    idle = [
        one.under(one.problem.model_copy(update={"deployment": Deployment(in_use=0.12)}))
        for one in options
    ]
    found = flip(idle, "utilisation", up=True)
    assert (found.before, found.winner) == ("api", "mine")
    assert "mine is the better choice from 41" in found.text
    assert found.text.endswith("% of the time in use, now 12")


def worlds() -> list[list[Option]]:
    """Contests in which every lever has a flip somewhere."""
    near = Node.model_validate({"id": "near", "device": "chip", "price": 3.0, "region": "eu"})
    far = [
        Node.model_validate({"id": f"far{at}", "device": "chip", "price": 0.36, "region": "us"})
        for at in range(2)
    ]
    small = {"memory": 0.35e6}
    split = machines(
        *[node.model_copy(update={"memory_bytes": small["memory"]}) for node in far],
        serving=Serving(speculation=Speculation(draft_tokens=3, acceptance=0.7, draft_token=1e-4)),
    )
    steady = machines(near, links=(link(one_way_latency=0.001),))
    there = CHEAPEST.model_copy(update={"must_have": MustHave(availability=0.7)})
    whole = machines(
        rented(churn="flaky", trust="rented", price=0.4), churn=(flaky(),), requirements=there
    )
    open_load = Workload(
        arrivals=Poisson(kind="poisson", rate=0.2),
        prompt=Fixed(tokens=100),
        output=Fixed(tokens=11),
        requests=4,
    )
    users = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=100),
        output=Fixed(tokens=11),
        requests=4,
    )
    contests = []
    for mine, load in ((split, users), (whole, users), (split, open_load)):
        mine = mine.model_copy(update={"workload": load})
        other = steady.model_copy(update={"workload": load})
        option = planned(mine)
        price = predicted(option).metrics.usd_per_million_output_tokens or 0.0
        contests.append([option, planned(other, "near"), api(mine, 1.3 * price)])
        contests.append([option, planned(other, "near"), api(mine, 0.8 * price)])
    return contests


@pytest.mark.slow
@pytest.mark.parametrize("at", range(6))
def test_planning_anew_below_and_above_gives_different_winners(at: int) -> None:
    options = worlds()[at]
    found = flips(options, levers(options), plans)
    assert found
    for one in found:
        moved = lever(options, one.parameter).moved

        def winner(value: float, moved=moved) -> str:  # type: ignore[no-untyped-def]
            world = []
            for option in options:
                changed = moved(option, value)
                if changed.price is None:
                    changed = replace(changed, plans=plans(changed.problem) or changed.plans)
                world.append(changed)
            return best(world)

        assert winner(one.inside) == one.before == winner(one.now), one
        assert winner(one.to) == one.winner != one.before, one
        assert one.replanned
        whole = one.parameter == "load" and one.to == round(one.to)
        assert whole or abs(one.to / one.inside - 1) < 2 * PRECISION


@pytest.mark.slow
def test_every_kind_of_lever_flips_somewhere() -> None:
    names = {one.parameter for options in worlds() for one in flips(options, levers(options))}
    assert {
        "rent of mine",
        "API price",
        "utilisation",
        "load",
        "link latency",
        "draft acceptance",
        "churn",
    } <= names


def test_a_must_have_can_be_what_flips() -> None:
    """Latency of the line breaks the bound before it changes the price."""
    made = machines(rented())
    must = MustHave(mean_tpot=0.03)
    made = made.model_copy(
        update={
            "requirements": Requirements(objective="usd_per_million_output_tokens", must_have=must)
        }
    )
    mine = planned(made)
    price = 50 * (predicted(mine).metrics.usd_per_million_output_tokens or 0.0)
    options = [mine, api(made, price, speed=1e3, ttft=0.1)]
    found = flip(options, "link latency", up=True)
    tpot_ms = predicted(mine).metrics.mean_tpot_ms or 0.0
    # a step crosses the line twice, 10 ms each way
    assert found.to == pytest.approx(1 + (30 - tpot_ms) / 20, rel=0.011)


def test_a_tornado_has_the_strongest_input_first() -> None:
    made = machines(rented(electricity=0.2 / 3.6e6), deployment=Deployment(in_use=0.5))
    mine = planned(made)
    found = swings(mine, levers([mine, api(made, 1.0)]))
    widths = [one.width for one in found]
    assert widths == sorted(widths, reverse=True)
    rent = next(one for one in found if one.parameter == "rent of mine")
    assert (rent.low_usd or 0) * 2 == pytest.approx(rent.now_usd) == (rent.high_usd or 0) / 2
    assert "API price" not in {one.parameter for one in found}
