"""Mends: the change that is proposed, applied, gives a plan."""

from __future__ import annotations

from typing import Any

import pytest

from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.core.workload import Closed, Fixed, Workload
from planner.plan.infeasible import NoPlanError
from planner.plan.mend import bounded, moves, with_must
from planner.plan.predict import predict
from planner.plan.promise import admissible
from planner.plan.solve import solve
from tests.core.world import device, problem


def world(**must: Any) -> Problem:
    """Three workers of 1 USD/h that hold two of the four layers each."""
    nodes = [Node(id="home")]
    nodes += [Node(id=f"n{index}", device="chip", price=1.0) for index in range(3)]
    asked = MustHave.model_validate(must)
    return problem(
        nodes,
        devices=[device(memory=4.5e5)],
        requirements=Requirements(objective="tpot", must_have=asked),
    )


@pytest.mark.parametrize(
    "must",
    [
        {"p95_ttft": 1e-4},
        {"mean_tpot": 1e-3},
        {"mean_e2el": 0.05},
        {"usd_per_hour": 0.5},
        {"usd_per_million_output_tokens": 0.01},
        {"output_throughput": 1e6},
        {"max_nodes": 1},
        {"mean_tpot": 1e-3, "usd_per_hour": 100.0},
        {"p95_ttft": 1e-4, "max_nodes": 3},
    ],
    ids=lambda must: "+".join(must),
)
def test_the_proposed_change_makes_it_feasible(must: dict[str, float]) -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(world(**must))
    mend = caught.value.mend
    assert mend is not None
    assert mend.name in must
    assert mend.text in caught.value.hint
    solution = solve(mend.applied)
    assert not mend.applied.requirements.must_have.missed(solution.prediction.metrics)


def test_two_impossible_bounds_are_moved_together() -> None:
    with pytest.raises(NoPlanError) as caught:
        solve(world(mean_tpot=1e-3, usd_per_hour=0.5, output_throughput=1.0))
    error = caught.value
    assert error.mend is None
    assert {mend.name for mend in error.mends} == {"mean_tpot", "usd_per_hour"}
    assert error.nearest is not None
    missed = world(mean_tpot=1e-3, usd_per_hour=0.5).requirements.must_have
    assert len(missed.missed(error.nearest.prediction.metrics)) == 2
    applied = error.mends[-1].applied
    solution = solve(applied)
    assert not applied.requirements.must_have.missed(solution.prediction.metrics)
    assert all(mend.text in error.hint for mend in error.mends)


@pytest.mark.parametrize(
    ("bound_s", "said"), [(0.004, "from 4 ms to 5 ms"), (1.0, "from 1 s to 1.25 s")]
)
def test_a_bound_below_a_second_is_moved_in_milliseconds(bound_s: float, said: str) -> None:
    mend = bounded(world(mean_tpot=bound_s), "mean_tpot", 1.25 * bound_s, "s")
    assert mend.text == f"raise must_have.mean_tpot {said}"
    assert (mend.before, mend.value) == (bound_s, 1.25 * bound_s)


def test_a_bound_that_was_asked_is_told_in_all_its_digits() -> None:
    mend = bounded(world(availability=0.999999999), "availability", 0.99)
    assert mend.text == "lower must_have.availability from 0.999999999 to 0.99"


def test_a_latency_moves_to_what_the_worst_pipeline_needs() -> None:
    """A mean over requests counts a fast replica more; every pipeline is held to the bound."""
    kinds = [device("fast", memory=3e6), device("slow", memory=3e6, memory_bandwidth=1e8)]
    fair = problem(
        [Node(id="home"), Node(id="a", device="fast"), Node(id="b", device="slow")],
        devices=kinds,
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=2),
            prompt=Fixed(tokens=40),
            output=Fixed(tokens=10),
        ),
        requirements=Requirements(objective="throughput"),
    )
    sides = [Pipeline(stages=(Stage(node=name, start=0, stop=4, quant="bf16"),)) for name in "ab"]
    plan = Plan(pipelines=tuple(sides))
    prediction = predict(fair, plan)
    slow_ms = max(one.metrics.mean_tpot_ms or 0.0 for one in prediction.pipelines)
    mean_ms = prediction.metrics.mean_tpot_ms
    assert mean_ms is not None
    assert mean_ms < 0.99 * slow_ms
    asked = with_must(fair, "mean_tpot_s", 0.999e-3 * slow_ms)
    mends = moves(asked, plan)
    assert mends
    assert mends[-1].applied.requirements.must_have.mean_tpot_s == pytest.approx(
        slow_ms / 1e3, rel=1e-3
    )
    assert admissible(mends[-1].applied, plan, prediction)
