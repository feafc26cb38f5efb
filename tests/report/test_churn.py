"""How nodes come and go, in words."""

from __future__ import annotations

import pytest

from planner.core.cluster import Churn, Node
from planner.core.plan import Pipeline, Plan, Stage
from planner.plan.predict import predict
from planner.report.churn import churn_text, long_run_text, short_run_text
from tests.core.world import CARD
from tests.sim.test_churn import churn, restless

STEPS = {"distribution": "recorded", "recorded": [True, True, True, False], "step": 60.0}
EVERY = {"start": 7200.0, "length": 1800.0, "every": 14400.0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"distribution": "planned", "maintenance": [EVERY], "notice": 120.0},
            "there 87.5% of the time, maintenance of 30 min every 4 h, from 2 h on, says so 2 "
            "min before",
        ),
        (
            {
                "distribution": "exponential", "up_scale": 5400.0, "down_scale": 1800.0,
                "always_on": 0.5, "dud": 0.25, "dud_after": 600.0,
            },
            "there 87.5% of the time, 1.5 h up and 30 min away in the mean (exponential), 50% of "
            "such nodes never leave, 25% of new rentals are duds, paid for 10 min",
        ),
        (STEPS, "there 75.0% of the time, 3 min up and 1 min away in the mean (recorded)"),
        (
            {"distribution": "planned", "maintenance": [{"start": 60.0, "length": 30.0}]},
            "there 100.0% of the time, maintenance of 30 s once, at 1 min",
        ),
    ],
)  # fmt: skip
def test_a_profile_is_told_in_one_line(values: dict[str, object], said: str) -> None:
    assert churn_text(Churn.model_validate({"id": "some"} | CARD | values)) == said


def test_how_often_a_plan_is_there_is_told_where_its_nodes_come_and_go() -> None:
    for name, said in (("restless", "availability in the long run is 80.00%"), (None, "")):
        world = restless(churn(), nodes=[Node(id="a", device="chip", churn=name)])
        stage = Stage(node="a", start=0, stop=4, quant="bf16")
        plan = Plan(pipelines=(Pipeline(stages=(stage,)),))
        there = predict(world, plan).metrics.model_copy(update={"usd_per_hour": 0.25})
        assert said in long_run_text(world, plan, there.availability)
        assert bool(long_run_text(world, plan, there.availability)) == bool(said)
        short = short_run_text(world, plan, 499.0, there)
        assert bool(short) == bool(said)
        if said:
            assert "(a: 40 s up and 10 s away in the mean)" in short
            assert "predicted for the long run: 80.00% available, 0.25 USD/h" in short
        assert short_run_text(world, plan, 500.0, there) == ""
