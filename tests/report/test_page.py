"""The page as text: what it says, and that nothing in it is taken for markup."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from planner.core.metrics import Metrics, RequestRecord
from planner.core.plan import Plan, Standby
from planner.core.requirements import Miss
from planner.plan.predict import predict
from planner.plan.reasons import Considered, Reasons
from planner.plan.solution import CandidateFlip, Limit
from planner.report.page import Facts, Served, render
from planner.report.page.answers import answers, better_in_all, headline
from planner.report.simulate import Target
from planner.sim.result import Recovery
from planner.sim.simulate import simulate
from tests.core.world import problem
from tests.report.test_run import PLAN


def facts(**changes: Any) -> Facts:
    world = problem()
    result = simulate(world, PLAN, 0)
    values: dict[str, Any] = {
        "command": "planner plan tiny.yaml",
        "problem": world,
        "plan": PLAN,
        "prediction": predict(world, PLAN),
        "gap": 0.0,
        "served": [Served("simulated", result.metrics, result.records)],
    }
    return Facts(**(values | changes))


def figures(page: str) -> dict[str, Any]:
    found = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    drawn: dict[str, Any] = json.loads(found[1])
    return drawn


def told(one: Facts, question: str) -> str:
    return " ".join(dict(answers(one))[question])


def test_the_same_facts_make_the_same_page() -> None:
    assert render(facts()) == render(facts())


def test_the_page_names_nothing_outside_itself() -> None:
    page = render(facts())
    own = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert "http://" not in own
    assert "https://" not in own
    assert "default-src 'none'" in own


def test_markup_in_names_stays_text() -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    rival = Target(evil, "scenario", Metrics(mean_tpot_ms=1.0, usd_per_million_output_tokens=1.0))
    page = render(facts(rivals=[rival], warnings=[evil]))
    assert evil not in page
    assert "&lt;/script&gt;&lt;img" in page


def test_one_token_takes_what_its_parts_take() -> None:
    one = facts()
    bars = figures(render(one))["token"]["data"]
    total_ms = sum(sum(trace["x"]) for trace in bars)
    predicted = one.prediction.pipelines[0]
    hops_s = sum(sum(hop.decode_s.values()) for hop in predicted.hops)
    stages_s = sum(sum(stage.decode_s.values()) for stage in predicted.stages)
    assert total_ms == pytest.approx(1e3 * (hops_s + stages_s), rel=0.02)
    spans = sorted(
        (base, base + x)
        for trace in bars
        for base, x in zip(trace["base"], trace["x"], strict=True)
    )
    assert all(after[0] == pytest.approx(before[1]) for before, after in pairwise(spans))


def test_no_number_of_the_map_hides_an_arrow_between_neighbours() -> None:
    notes = figures(render(facts()))["map"]["layout"]["annotations"]
    arrows = [one for one in notes if one.get("showarrow")]
    badges = {one["text"]: one for one in notes if re.fullmatch(r"<b>\d+</b>", one["text"])}
    assert len(arrows) == len(badges) >= 2
    first_badge = notes.index(badges["<b>1</b>"])
    assert all(notes.index(arrow) < first_badge for arrow in arrows)  # drawn below the numbers
    level = 0
    for number, arrow in enumerate(arrows, 1):
        if arrow["y"] == arrow["ay"] and abs(arrow["x"] - arrow["ax"]) < 0.5:
            level += 1
            assert abs(badges[f"<b>{number}</b>"]["y"] - arrow["y"]) > 0.2
    assert level


def test_the_front_marks_the_chosen_plan_and_draws_apis_as_lines() -> None:
    considered = (
        Considered(
            name="two copies",
            metrics=Metrics(mean_tpot_ms=20.0, usd_per_million_output_tokens=2.0),
            chosen=True,
        ),
        Considered(
            name="one copy", metrics=Metrics(mean_tpot_ms=30.0, usd_per_million_output_tokens=9.0)
        ),
    )
    api = Target("shop", "api", Metrics(usd_per_million_output_tokens=0.5), source="price of 2026")
    drawn = figures(render(facts(reasons=Reasons(considered=considered), rivals=[api])))["front"]
    marks = {trace["name"]: trace["x"] for trace in drawn["data"] if trace["mode"] != "lines"}
    assert marks == {"chosen plan": [2.0], "other plans for these nodes": [9.0]}
    assert [line["x0"] for line in drawn["layout"]["shapes"]] == [0.5]


def test_the_tornado_has_the_nearest_flip_on_top() -> None:
    flips = tuple(
        CandidateFlip(parameter=name, now=1.0, to=to, winner="other", text=f"{name} at {to}")
        for name, to in (("far", 8.0), ("near", 0.5), ("nothing", 0.0))
    )
    drawn = figures(render(facts(turns=flips)))["tornado"]
    assert drawn["data"][0]["x"] == [-1.0, 3.0]


def test_losses_are_drawn_from_loss_to_recovery() -> None:
    records = [RequestRecord(0, 0, 5, 0.0, [1.0, 2.0, 60.0], "completed")]
    lost = Recovery(pipeline=0, stage=1, node="b", lost_s=3.0, detected_s=8.0, recovered_s=50.0)
    served = [Served("simulated", Metrics(), records, [lost])]
    shapes = figures(render(facts(served=served)))["timeline-simulated"]["layout"]["shapes"]
    assert [(shape["x0"], shape["x1"]) for shape in shapes] == [(3.0, 50.0)]


def test_a_reader_learns_what_limits_it_and_what_happens_without_a_node() -> None:
    plan = Plan(pipelines=PLAN.pipelines, standbys=(Standby(node="c", pipeline=0, stage=1),))
    reasons = Reasons(
        limits=(Limit(what="time", where="b", share=0.5, text="reading weights on b"),),
        fallback="if b leaves: a -> c",
        fallback_metrics=Metrics(mean_tpot_ms=250.0, usd_per_hour=0.5),
    )
    one = facts(plan=plan, reasons=reasons)
    assert headline(one) == "Run tiny in bf16 on a → b"
    assert told(one, "What limits it?") == "Reading weights on b."
    leaves = told(one, "What if a node leaves?")
    assert "c stands by for b (cold)." in leaves
    assert "If b leaves: a -> c, at 250 ms per token and 0.5 USD/h." in leaves


@pytest.mark.parametrize(
    ("cost", "speed", "verdict"),
    [
        (0.5, 0.5, "take it, unless"),
        (0.5, 2.0, "where the price matters more"),
        (2.0, 0.5, "where the speed is worth"),
        (2.0, 2.0, "no reason"),
    ],
)
def test_alternatives_are_weighed_in_words(cost: float, speed: float, verdict: str) -> None:
    mine = Metrics(mean_tpot_ms=10.0, usd_per_million_output_tokens=1.0)
    other = Metrics(mean_tpot_ms=10.0 * speed, usd_per_million_output_tokens=cost)
    one = facts(served=[Served("simulated", mine, [])], rivals=[Target("cloud", "scenario", other)])
    assert verdict in told(one, "When is something else better?")
    assert (better_in_all(one) is not None) == (verdict == "take it, unless")


def test_an_alternative_that_misses_a_must_have_is_no_better_one() -> None:
    mine = Metrics(mean_tpot_ms=10.0, usd_per_million_output_tokens=1.0)
    other = Metrics(mean_tpot_ms=5.0, usd_per_million_output_tokens=0.5)
    missed = (Miss(metric="mean_ttft_ms", value=9.0, bound=5.0),)
    one = facts(
        served=[Served("simulated", mine, [])],
        rivals=[Target("cloud", "scenario", other, missed=missed)],
    )
    assert better_in_all(one) is None
    assert "it misses mean time to first token" in told(one, "When is something else better?")


def test_figures_are_means_over_all_runs_and_pictures_say_which_run_they_show() -> None:
    """The page judges must-haves by what the terminal judges them by."""
    world = problem()
    result = simulate(world, PLAN, 0)
    means = result.metrics.model_copy(update={"mean_ttft_ms": 1234.0})
    one = facts(served=[Served("simulated", means, result.records, runs=5)])
    page = render(one)
    assert "1.23<small>s" in page
    assert "means of 5 runs, as simulated" in page
    assert (
        page.count("simulated, the first of 5 runs:") == 2 * 3
    )  # captions, and for screen readers


def test_a_short_run_with_churn_says_what_a_month_costs_in_the_long_run() -> None:
    one = facts()
    expected = one.prediction.metrics.model_copy(update={"usd_per_hour": 0.5})
    prediction = one.prediction.model_copy(update={"metrics": expected})
    dear = Served("simulated", one.served[0].metrics.model_copy(update={"usd_per_hour": 2.0}), ())
    cost = told(
        facts(prediction=prediction, served=[dear], short_run="short"), "What does it cost?"
    )
    assert "2 USD/h in so short a run." in cost
    assert "0.5 USD/h in the long run, predicted, about 360 USD for 30 days" in cost


def test_flips_seen_from_another_choice_say_so() -> None:
    turn = CandidateFlip(parameter="load", now=1.0, to=2.0, winner="cloud", text="cloud from 2")
    one = facts(turns=[turn], turns_from="mine")
    assert "mine is the choice today" in told(one, "When is something else better?")
    assert "Seen from mine" in render(one)
    assert "One input could change the choice: cloud from 2." in render(one)


def test_prices_of_rented_machines_stand_on_the_page() -> None:
    listed = {"what": "Shop l4", "value": "0.5 USD/h", "as_of": "2026-01-01", "source": "a list"}
    page = render(facts(prices=[listed]))
    assert "price of 2026-01-01, a list" in page


def test_other_values_are_no_alternatives() -> None:
    metrics = facts().best_known
    late = Miss(metric="mean_ttft_ms", value=2.0, bound=1.0)
    one = facts(
        varied=[Target("load=1", "", metrics), Target("load=2", "", metrics, missed=(late,))]
    )
    page = render(one)
    assert "<td>load=1</td>" in page
    assert "✗ 1 missed" in page
    assert "nothing else was compared" in told(one, "When is something else better?")
