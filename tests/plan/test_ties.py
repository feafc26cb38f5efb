"""Ties: the objective leaves several plans, and quality, price and speed choose among them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from planner.core.cluster import Node
from planner.core.quant import QuantScheme
from planner.core.requirements import Requirements, Wish
from planner.core.workload import Closed, Fixed, Lognormal, Poisson, Workload
from planner.plan.solution import Solution
from planner.plan.solve import solve
from tests.core.world import device, problem, quant

NARROW = {"weight_bits": 4.5, "lossless": False}


def solved(objective: Wish, quants: Sequence[QuantScheme], workload: Workload) -> Solution:
    nodes = [Node(id="a", device="chip", usd_per_hour=1.0)]
    wanted = Requirements(objective=objective)
    return solve(problem(nodes, quants=tuple(quants), workload=workload, requirements=wanted))


def open_load(requests_per_s: float) -> Workload:
    return Workload(
        arrivals=Poisson(kind="poisson", rate=requests_per_s),
        prompt=Lognormal(kind="lognormal", median_tokens=100, sigma=0.5, max_tokens=500),
        output=Fixed(tokens=50),
    )


def test_at_one_price_the_best_quality_is_chosen_and_the_tie_is_told() -> None:
    """A rented node costs what it costs, in whatever weights."""
    lost = {"family": "tiny", "metric": "task_recovery", "value": 0.9, "source": "made up"}
    narrow = quant("q4", quality=(lost,), **NARROW)
    found = solved("usd_per_hour", [narrow, quant()], open_load(0.5))
    assert found.plan.pipelines[0].stages[0].quant == "bf16"
    assert found.gap == 0
    tie = next(one for one in found.ties if "q4" in one.name)
    assert tie.worse == 0
    assert tie.value == found.value
    assert ": equal; " in tie.text
    assert "quality -10.0%" in tie.text


def test_where_quality_was_never_published_wider_weights_are_chosen() -> None:
    unknown = [quant("q4", **NARROW), quant("q8", weight_bits=8.5, lossless=False)]
    found = solved("usd_per_hour", unknown, open_load(0.5))
    assert found.plan.pipelines[0].stages[0].quant == "q8"


def test_a_second_rented_node_is_not_paid_for_where_the_goodput_is_the_same() -> None:
    """Exact weights need both nodes, narrow ones have room on one; nobody waits on either."""
    lost = {"family": "tiny", "metric": "task_recovery", "value": 0.9, "source": "made up"}
    narrow = quant("q4", quality=(lost,), **NARROW)
    rented = [Node(id=name, device="small", usd_per_hour=1.0) for name in "ab"]
    asked = problem(
        [Node(id="home"), *rented],
        devices=[device("small", memory=8.5e5)],
        quants=(quant(), narrow),
        workload=open_load(0.5),
        requirements=Requirements.model_validate({"objective": "goodput"}),
    )
    found = solve(asked)
    assert len({one.prediction.metrics.usd_per_hour for one in found.candidates}) > 1
    assert [stage.quant for one in found.plan.pipelines for stage in one.stages] == ["q4"]
    dear = next(tie for tie in found.ties if "bf16" in tie.name)
    assert dear.text.endswith("cost +1 USD/h, quality +10.0%")
    rich = asked.requirements.must_have.model_copy(update={"quality": 1.0})
    strict = asked.requirements.model_copy(update={"must_have": rich})
    assert len(solve(asked.model_copy(update={"requirements": strict})).plan.nodes) == 2


def test_seats_that_cost_nothing_are_taken_where_they_shorten_the_wait() -> None:
    """One seat is as cheap as many for who pays by the hour, and slower."""
    found = solved("usd_per_million_output_tokens", [quant()], open_load(20.0))
    equal = [one for one in found.candidates if one.value == found.value]
    assert len(equal) > 1
    last_ms = [one.prediction.metrics.mean_e2el_ms or 0.0 for one in equal]
    assert last_ms[0] == min(last_ms) < max(last_ms)
    assert found.candidates[0].chosen
    assert found.plan == found.candidates[0].plan


def test_a_worse_plan_is_told_only_where_it_is_near() -> None:
    users = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=9),
        output=Fixed(tokens=9),
    )
    found = solved("throughput", [quant(), quant("q4", **NARROW)], users)
    best = found.value
    for one in found.candidates[1:]:
        near = any(tie.name == one.name for tie in found.ties)
        assert near == (one.value >= best * 0.99 and one.trade != "nothing"), one.name


def test_what_is_traded_is_the_difference_of_what_is_shown() -> None:
    """Unlike replicas: users and requests have different means, and one of them is counted."""
    users = Workload(
        arrivals=Closed(kind="closed", concurrency=2),
        prompt=Fixed(tokens=100),
        output=Fixed(tokens=11),
    )
    nodes = [Node(id="a", device="chip"), Node(id="b", device="chip")]
    asked = problem(nodes, workload=users, requirements=Requirements(objective="tpot"))
    found = solve(asked)
    shown = [
        asked.requirements.figure(one.prediction.metrics, "mean_tpot_ms")
        for one in found.candidates
    ]
    told = {one.name: one.trade for one in found.candidates}
    several = next(one for one in found.candidates if len(one.plan.pipelines) > 1)
    metrics = several.prediction.metrics
    assert metrics.user_tpot_ms != pytest.approx(metrics.mean_tpot_ms)
    for one, value in zip(found.candidates, shown, strict=True):
        assert value == pytest.approx(one.value)
        change = (value or 0.0) - (shown[0] or 0.0)
        if not one.chosen:
            assert f"TPOT {change:+.3g} ms" in told[one.name]
