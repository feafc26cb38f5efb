"""The report of a plan, from a plan made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from planner.core.cluster import Node
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.plan.breakdown import round_s
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.solution import Candidate, CandidateFlip, Limit, Solution
from planner.report.plan import PlanReport, infeasible_document
from tests.core.world import problem as tiny

STAGES = (
    Stage(node="a", start=0, stop=3, quant="bf16"),
    Stage(node="b", start=3, stop=4, quant="bf16"),
)
PLAN = Plan(pipelines=(Pipeline(stages=STAGES),))


def world(**must: Any) -> Problem:
    nodes = (
        Node(id="a", device="chip", region="eu", usd_per_hour=0.25),
        Node(id="b", device="chip", region="us", count=2, usd_per_hour=0.5),
    )
    return tiny(nodes=nodes, requirements=Requirements(must_have=MustHave.model_validate(must)))


def report(problem: Problem, **changes: Any) -> PlanReport:
    prediction = predict(problem, PLAN)
    value = prediction.metrics.mean_tpot_ms
    chosen = Candidate(
        name="both", plan=PLAN, prediction=prediction, value=value or 0.0, chosen=True
    )
    values: dict[str, Any] = {
        "plan": PLAN,
        "prediction": prediction,
        "value": value,
        "bound": value,
        "gap": 0.0,
        "solver": "exact",
        "stopped": "proven",
        "candidates": (chosen,),
        "limits": (Limit(what="latency", where="a -> b", share=0.4, text="the line is long"),),
        "hidden_costs": {"idle_capacity": 0.125, "egress": 0.0},
        "flips": (
            CandidateFlip(parameter="load", now=1, to=6.5, winner="one", text="more load: one"),
        ),
        "fallback_text": "without b nothing serves",
        "warnings": ("beware",),
    }
    return PlanReport(problem, Solution.model_validate(values | changes), 1.5, ("old prices",))


def read(shown: PlanReport, width: int = 200) -> str:
    console = Console(width=width, markup=False, highlight=False, no_color=True)
    with console.capture() as captured:
        for part in shown.text():
            console.print(part)
    return captured.get()


def test_only_a_gap_of_zero_is_called_optimal() -> None:
    assert "proven optimal" in read(report(world()))
    text = read(report(world(), gap=0.031, bound=10.0))
    assert "proven optimal" not in text
    assert "at most 3.10% from the best possible (10 ms is the bound)" in text
    assert "at most 0.01% from" in read(report(world(), gap=2e-6, bound=10.0))


def test_the_choice_comes_first_and_every_part_is_said() -> None:
    text = read(report(world()))
    assert text.startswith("Run tiny in bf16 on a -> b.\nPredicted mean time per output token: ")
    for said in (
        "Calibration tier 0",
        "2 x chip",
        "0 to 2",
        "3 to 3",
        "-> a ",
        "the line is long",
        "idle capacity",
        "without b nothing serves",
        "more load: one",
        "beware",
        "old prices",
        "0.75 USD/h",
    ):
        assert said in text, said
    assert "chosen" in text


def test_how_long_the_solver_took_is_not_in_the_text() -> None:
    slow, fast = report(world()), report(world())
    object.__setattr__(slow, "seconds", 99.0)
    assert read(slow) == read(fast)
    assert slow.document()["solver"] == {
        "name": "exact",
        "seconds": 99.0,
        "stopped": "proven",
    }


def test_the_table_has_the_best_of_each_structure_and_the_document_all() -> None:
    (only,) = report(world()).solution.candidates
    far, near = (PLAN.model_copy(update={"coordinator": name}) for name in "ab")
    other = only.model_copy(update={"name": "both, coordinator b", "plan": near, "chosen": False})
    more = [other.model_copy(update={"name": f"{n} copies"}) for n in range(9)]
    chosen = only.model_copy(update={"name": "both, coordinator a", "plan": far})
    shown = report(world(), candidates=(other, chosen, *more))
    text = read(shown)
    assert "chosen  both, coordinator a" in text
    assert "coordinator b" not in text
    assert ("6 copies" in text, "7 copies" in text) == (True, False)
    assert "  3 more, worse or of the same structure" in text
    assert len(shown.document()["candidates"]) == 11


def test_where_the_coordinator_may_not_sit_is_said_with_the_reason() -> None:
    out = {"b": "comes and goes, others stay", "c": "comes and goes, others stay"}
    shown = replace(report(world()), seats_out=out)
    assert "  b, c: no seat, comes and goes, others stay" in read(shown)
    assert shown.document()["coordinator"]["out"] == [
        {"nodes": ["b", "c"], "why": "comes and goes, others stay"}
    ]


def test_must_haves_stand_beside_what_is_predicted() -> None:
    text = read(
        report(world(mean_ttft=9.0, usd_per_hour=2.0, max_nodes=3, forbid_regions=["mars"]))
    )
    assert "Must-haves, all met" in text
    assert "at most 9,000 ms" in text
    assert "at most 2 USD/h" in text
    assert "2 used" in text
    assert "mars" in text
    assert "all met" not in read(report(world(mean_ttft=1e-6)))


def test_the_parts_of_a_token_sum_to_the_step() -> None:
    problem = world()
    shown = report(problem)
    (predicted,) = shown.solution.prediction.pipelines
    # One decode step of a single user is what TPOT is.
    tpot_s = (shown.solution.prediction.metrics.mean_tpot_ms or 0) / 1e3
    assert round_s(problem, predicted) == pytest.approx(tpot_s, rel=1e-3)


def test_the_document_calls_a_flip_from_and_to() -> None:
    (flip,) = report(world()).document()["flips"]
    assert flip == {
        "parameter": "load",
        "from": 1,
        "to": 6.5,
        "winner": "one",
        "text": "more load: one",
    }


def test_narrow_terminals_lose_no_figure() -> None:
    text = read(report(world()), width=60)
    assert "0.75 USD/h" in text
    assert all(node.region in text for node in world().cluster.nodes)


def test_no_plan_as_a_document() -> None:
    nearest = report(world()).solution
    document = infeasible_document(NoPlanError("usd_per_hour", "none", "pay more", nearest))
    assert document["constraint"] == "usd_per_hour"
    assert document["nearest"]["plan"]["pipelines"][0]["stages"][1]["node"] == "b"
    assert infeasible_document(NoPlanError("memory", "none", "add"))["nearest"] is None


def test_a_plan_of_unpriced_nodes_is_not_told_to_be_free() -> None:
    told = read(report(tiny(nodes=(Node(id="a", device="chip"), Node(id="b", device="chip")))))
    assert "Cost: nothing here has a price" in told
    assert "0 USD" not in told.split("Cost: ")[1]
