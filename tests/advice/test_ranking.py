from __future__ import annotations

from typing import Any

import pytest

from planner.advice.alternative import Alternative, api_alternative, predicted
from planner.advice.flips import Flip
from planner.advice.pareto import pareto
from planner.advice.ranking import ranked
from planner.advice.verdict import verdict
from planner.core.cluster import Node
from planner.core.deployment import Deployment
from planner.core.metrics import Metrics
from planner.core.requirements import Miss, MustHave, Requirements
from tests.advice.world import CHEAPEST, api, machines


def one(name: str, usd: float | None, tpot: float | None = None, **changes: Any) -> Alternative:
    metrics = Metrics(
        usd_per_million_output_tokens=usd, mean_tpot_ms=tpot, p95_tpot_ms=tpot, availability=0.99
    )
    values: dict[str, Any] = {"kind": "scenario", "metrics": metrics, "quality": 0.98}
    return Alternative(name=name, **(values | changes))


MISS = Miss(metric="mean_tpot_ms", value=90.0, bound=30.0)


def test_must_haves_exclude_whatever_the_price_is() -> None:
    found = [one("dear", 9.0), one("slow", 1.0, missed=(MISS,)), one("fair", 5.0)]
    assert [a.name for a in ranked(CHEAPEST, found)] == ["fair", "dear", "slow"]


def test_wishes_weigh_by_ratio() -> None:
    """Half the speed outweighs a third of the price only with a weight of 2."""
    found = [one("cheap", 2.0, 40.0), one("fast", 3.0, 20.0)]
    light = CHEAPEST.model_copy(update={"nice_to_have": {"tpot": 0.5}})
    heavy = CHEAPEST.model_copy(update={"nice_to_have": {"tpot": 2.0}})
    assert ranked(light, found)[0].name == "cheap"
    assert ranked(heavy, found)[0].name == "fast"


def test_a_weighted_sum_orders_by_itself() -> None:
    """A dollar an hour is worth 30 ms here, whatever the ratios are."""
    wanted = Requirements(objective="weighted", nice_to_have={"tpot": 1, "usd_per_hour": 30})
    cheap, fast = (
        Alternative(
            name=name,
            kind="scenario",
            metrics=Metrics(mean_tpot_ms=tpot, usd_per_hour=usd),
        )
        for name, tpot, usd in (("cheap", 40.0, 0.1), ("fast", 20.0, 0.7))
    )
    assert [a.name for a in ranked(wanted, [fast, cheap])] == ["fast", "cheap"]
    dear = fast.model_copy(update={"metrics": Metrics(mean_tpot_ms=20.0, usd_per_hour=0.8)})
    assert [a.name for a in ranked(wanted, [dear, cheap])] == ["cheap", "fast"]
    unknown = one("api", 1.0)
    assert [a.name for a in ranked(wanted, [unknown, dear])] == ["fast", "api"]


def test_what_serves_equally_well_is_ranked_by_its_price() -> None:
    """Nobody pays four times as much for half a percent."""
    fast = Requirements(objective="tpot")
    found = [one("dear", 8.0, 20.0), one("fair", 2.0, 20.1), one("slow", 1.0, 20.3)]
    assert [a.name for a in ranked(fast, found)] == ["fair", "dear", "slow"]
    told = verdict(fast, found, asked="dear")
    assert told.text == (
        "Use fair at 2 USD per million output tokens, not dear at 8 USD: "
        "mean time per output token is the same within 1%, 20.1 ms.",
        "Next best is dear at 8 USD: mean time per output token is the same within 1%.",
    )
    weighted = Requirements(objective="weighted", nice_to_have={"tpot": 1})
    assert ranked(weighted, found)[0].name == "dear"


def test_what_nobody_published_counts_as_worst() -> None:
    fast = Requirements(objective="tpot")
    assert [a.name for a in ranked(fast, [one("api", 1.0), one("mine", 9.0, 50.0)])] == [
        "mine",
        "api",
    ]


def test_the_verdict_says_use_the_api_when_that_is_true() -> None:
    found = [one("mine", 11.0, 25.0), one("novita", 0.25, kind="api")]
    told = verdict(CHEAPEST, found, asked="mine")
    assert told.winner == "novita"
    assert told.text[0] == (
        "Use the API of novita at 0.25 USD per million output tokens, not mine, "
        "which costs 11 USD, 44 times as much."
    )
    assert told.text[1] == "Next best is mine at 11 USD."


def test_the_verdict_says_what_is_not_known_and_names_what_is() -> None:
    found = [one("mine", 11.0, 25.0), one("api", 0.3, kind="api", unknown=("mean_tpot_ms",))]
    told = verdict(CHEAPEST, found, asked="mine")
    assert "Nobody published its mean time per output token" in told.text[1]
    assert told.text[2] == "The best one whose figures are all known is mine."


def test_a_recommendation_that_holds_only_today_says_so_and_names_the_fallback() -> None:
    found = [one("mine", 1.0), one("api", 1.2, kind="api"), one("cloud", 3.0)]
    flip = Flip(
        parameter="utilisation",
        now=0.9,
        to=0.6,
        inside=0.61,
        before="mine",
        winner="api",
        distance=1.5,
        replanned=True,
        text="api is the better choice below 61 %",
    )
    far = flip.model_copy(update={"distance": 5.0, "text": "far away"})
    told = verdict(CHEAPEST, found, [flip, far], asked="mine")
    assert told.only_if == ("api is the better choice below 61 %",)
    assert told.fallback == "api"
    assert told.text[-1] == (
        "This holds only near today's figures: api is the better choice below 61 %. "
        "Otherwise take api."
    )


def test_the_verdict_of_another_objective_says_what_it_compares() -> None:
    fast = Requirements(objective="tpot")
    found = [one("mine", 1.0, 70.0), one("cloud", 5.0, 20.0)]
    told = verdict(fast, found, asked="mine")
    assert told.text[0] == (
        "Use cloud at 5 USD per million output tokens, not mine at 1 USD: "
        "its mean time per output token is 20 ms instead of 70."
    )


def test_the_fallback_of_an_api_whose_price_may_rise_is_no_api() -> None:
    found = [one("api", 1.0, kind="api"), one("other", 1.1, kind="api"), one("mine", 1.5)]
    flip = Flip(
        parameter="API price", now=1.0, to=1.6, inside=1.59, before="api", winner="spot",
        distance=1.6, replanned=True, text="spot is the better choice from 1.6",
    )  # fmt: skip
    assert verdict(CHEAPEST, found, [flip], asked="mine").fallback == "mine"


def test_where_nothing_serves_the_nearest_miss_is_named() -> None:
    near = Miss(metric="usd_per_hour", value=2.2, bound=2.0)
    found = [one("slow", 1.0, missed=(MISS,)), one("dear", 9.0, missed=(near,))]
    told = verdict(CHEAPEST, found)
    assert (told.winner, told.nearest) == ("", "dear")
    assert "cost per hour (2.2 USD/h, at most 2 USD/h is asked)" in told.text[1]


def test_the_front_is_what_nothing_beats_in_everything() -> None:
    found = [
        one("cheap", 1.0, 40.0),
        one("fast", 4.0, 10.0),
        one("beaten", 4.5, 12.0),
        one("api", 0.9, kind="api", quality=None),
        one("refused", 0.1, 1.0, missed=(MISS,)),
    ]
    points = {point.name: point for point in pareto(found, "cheap")}
    assert {name for name, point in points.items() if point.front} == {"api", "cheap", "fast"}
    assert points["beaten"].beaten_by == "fast"
    assert "refused" not in points
    assert points["fast"].text == "4 times dearer, 4 times faster"
    assert points["cheap"].text == "chosen"
    assert "tpot not known" in points["api"].text


def test_an_api_is_charged_by_the_token_and_only_while_it_is_used() -> None:
    made = machines(
        Node(id="card", device="chip", price=1.0),
        deployment=Deployment(in_use=0.25),
        requirements=CHEAPEST.model_copy(update={"must_have": MustHave(mean_tpot=0.02)}),
    )
    option = api(made, 2.0, speed=100, ttft=0.2)
    option.price.__dict__["usd_per_input_token"] = 0.5e-6  # 100 prompt tokens
    found = predicted(option)
    each_s = 0.2 + 10 / 100
    assert found.metrics.output_throughput == pytest.approx(11 / each_s)
    assert found.metrics.usd_per_million_output_tokens == pytest.approx((100 * 0.5 + 11 * 2) / 11)
    hourly = (100 * 0.5e-6 + 11 * 2e-6) / each_s * 3600 * 0.25
    assert found.metrics.usd_per_hour == pytest.approx(hourly)
    assert sum(line.usd_per_hour for line in found.lines) == pytest.approx(hourly, rel=1e-12)
    assert not found.missed
    assert api_alternative(api(made, 2.0)).unknown == ("mean_tpot_ms",)


def test_requests_that_fail_are_a_line_and_in_the_price() -> None:
    """One in five fails: 1.25 tries, the prompt charged each time."""
    made = machines(Node(id="card", device="chip"))
    option = api(made, 2.0, speed=100, ttft=0.2, failed=0.2)
    option.price.__dict__["usd_per_input_token"] = 0.5e-6  # 100 prompt tokens
    found = predicted(option)
    whole = (100 * 0.5 * 1.25 + 11 * 2) / 11
    assert found.metrics.usd_per_million_output_tokens == pytest.approx(whole)
    again = [line for line in found.lines if line.kind == "retries"]
    hourly = found.metrics.output_throughput / 11 * 3600  # type: ignore[operator]
    assert again[0].usd_per_hour == pytest.approx(100 * 0.5e-6 * 0.25 * hourly)
    assert sum(line.usd_per_hour for line in found.lines) == pytest.approx(
        found.metrics.usd_per_hour
    )
