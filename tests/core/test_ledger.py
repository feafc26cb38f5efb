"""Every cost is a line, the lines sum to the total, and the total is what a bill would say."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.core.cluster import Churn, Cluster, EgressStep, Link, Node
from planner.core.cost import Activity, CostLine, ledger
from planner.core.cost.egress import egress, mean_usd_per_byte
from planner.core.cost.ledger import hidden, parts, standing_usd_per_hour, total_usd_per_hour
from planner.core.deployment import Deployment
from planner.core.plan import Pipeline, Plan, Stage, Standby
from planner.core.problem import Problem
from planner.plan.predict import predict
from planner.sim.simulate import simulate
from tests.core.world import CARD, device, link, problem

GB = 1e9


def world(
    nodes: list[Node], links: list[Link], deployment: Deployment, churn: tuple[Churn, ...] = ()
) -> Problem:
    base = problem(devices=[device(tdp=300, idle=20)], links=links, nodes=nodes)
    values = dict(base.cluster) | {"churn": churn}
    cluster = Cluster.model_validate(values)
    return base.model_copy(update={"cluster": cluster, "deployment": deployment})


def two_stages(*standbys: Standby) -> Plan:
    stages = (
        Stage(node="a", start=0, stop=2, quant="bf16"),
        Stage(node="b", start=2, stop=4, quant="bf16"),
    )
    return Plan(pipelines=(Pipeline(stages=stages),), standbys=standbys)


def node(name: str, **changes: Any) -> Node:
    return Node.model_validate({"id": name, "device": "chip"} | changes)


def of(lines: tuple[CostLine, ...], kind: str, where: str = "") -> float:
    return sum(
        line.usd_per_hour for line in lines if line.kind == kind and where in ("", line.where)
    )


@given(
    rents=st.tuples(*[st.sampled_from([0.0, 0.4, 2.5])] * 4),
    energy=st.sampled_from([0.0, 0.3 / 3.6e6]),
    metered=st.sampled_from([0.0, 0.09 / GB]),
    free=st.sampled_from([0.0, 1e6, 100 * GB]),
    in_use=st.sampled_from([0.1, 0.5, 1.0]),
    purchase=st.sampled_from([0.0, 1800.0]),
    increment=st.sampled_from([0.0, 3600.0, 86400.0 * 7]),
)
def test_the_total_is_rent_by_time_and_usage_by_price(
    rents: tuple[float, ...],
    energy: float,
    metered: float,
    free: float,
    in_use: float,
    purchase: float,
    increment: float,
) -> None:
    """The same bill, made without the ledger from what the simulator says was used."""
    nodes = [
        node("home", device=None, price=rents[0]),
        node("a", price=rents[1], electricity=energy, start_up=600, billed_by=increment),
        node("b", price=rents[2], purchase=purchase, lifetime=3e7),
        node("c", price=rents[3], electricity=energy),
    ]
    links = [link(egress=metered, egress_free=free, tier="cloud")]
    made = world(nodes, links, Deployment(period=10 * 86400, in_use=in_use))
    plan = two_stages(Standby(node="c", pipeline=0, stage=0))
    result = simulate(made, plan, seed=3)
    hours = 240.0
    busy = result.stage_busy
    rent = sum(rents) * hours
    rent += rents[1] * 600 / 3600
    weights = {"a": 0.0, "b": 0.0}
    for name, layers in (("a", (0, 2)), ("b", (2, 4))):
        params = sum(made.model.layers[i].params for i in range(*layers))
        ends = made.model.embedding_params if name == "a" else made.model.head_params
        weights[name] = 2 * (params + ends)
        loading_s = (weights[name] + 64) / 10e6 + 0.01 + 1e-4
        rent += rents[1 if name == "a" else 2] * loading_s / 3600
    if increment:
        rented_h = math.ceil(hours * 3600 / increment) * increment / 3600
        rent += rents[1] * (rented_h - hours)
    joule = (300 * busy["a"] * in_use + 20 * (1 - busy["a"] * in_use)) * 3600 * hours
    joule += 20 * 3600 * hours
    requests = sum(record.prompt_tokens for record in result.records)
    steps = sum(record.output_tokens - 1 for record in result.records)
    calls = len(result.records) + steps
    ends_bytes = 4 * (requests + steps) + 4 * calls
    hidden_bytes = (requests + steps) * 64 * 2
    per_s = (ends_bytes + hidden_bytes + 3 * 64 * calls) / result.simulated_s
    sent = per_s * hours * 3600 * in_use
    once = sum(weights.values())
    month = (sent + once) / hours * 730
    usage = joule * energy + (sent + once) * metered * (1 - min(1.0, free / month))
    whole = rent + usage + purchase * hours * 3600 / 3e7
    assert total_usd_per_hour(result.cost_lines) * hours == pytest.approx(whole, rel=1e-9)
    assert sum(line.usd_per_hour for line in result.cost_lines) == pytest.approx(
        result.metrics.usd_per_hour or 0.0, abs=1e-9
    )
    assert sum(result.cost.values()) == pytest.approx(whole / hours, rel=1e-9)


def test_prediction_and_simulation_have_the_same_lines() -> None:
    nodes = [node("a", price=1.0, electricity=0.3 / 3.6e6), node("b", price=2.0)]
    made = world(nodes, [link(egress=0.09 / GB)], Deployment(in_use=0.25))
    plan = two_stages()
    told, found = predict(made, plan), simulate(made, plan)
    one = {(line.kind, line.where): line.usd_per_hour for line in told.cost_lines}
    two = {(line.kind, line.where): line.usd_per_hour for line in found.cost_lines}
    assert one == pytest.approx(two, rel=1e-9)
    assert told.cost_usd_per_hour == pytest.approx(found.cost)
    assert told.metrics.usd_per_million_output_tokens == pytest.approx(
        found.metrics.usd_per_million_output_tokens
    )
    rate = told.metrics.output_throughput or 0.0
    each = (told.metrics.usd_per_hour or 0.0) / (rate * 0.25 * 3600) * 1e6
    assert told.metrics.usd_per_million_output_tokens == pytest.approx(each)


def test_idle_standby_and_coordinator_are_lines_of_their_own() -> None:
    nodes = [node("home", device=None, price=0.1), node("a", price=1), node("b", price=2)]
    nodes.append(node("c", price=4))
    made = world(nodes, [], Deployment(in_use=0.5))
    plan = two_stages(Standby(node="c", pipeline=0, stage=1, state="hot"))
    lines = ledger(made, plan, Activity(busy={"a": 0.6, "b": 0.2}, sent_bytes={}))
    assert of(lines, "rent", "a") == pytest.approx(0.3)
    assert of(lines, "idle", "a") == pytest.approx(0.7)
    assert of(lines, "idle", "b") == pytest.approx(2 * 0.9)
    assert of(lines, "standby") == 4
    assert of(lines, "coordinator") == 0.1
    loading = of(lines, "start_up")
    assert parts(lines)["rent"] == pytest.approx(7.1 + loading)
    assert hidden(lines).keys() == {"idle", "standby", "coordinator", "start_up"}


def test_egress_is_free_up_to_the_allowance_that_a_tier_shares() -> None:
    """60 and 100 GB a month over two lines of a tier with 100 GB free: 60 GB at 0.09 USD/GB."""
    links = [
        link("a", "b", egress=0.09 / GB, egress_free=100 * GB, tier="cloud"),
        link("b", "a", egress=0.09 / GB, egress_free=100 * GB, tier="cloud"),
    ]
    cluster = problem(links=links).cluster
    charged = egress(cluster, {("a", "b"): 60 * GB / 730, ("b", "a"): 100 * GB / 730})
    usd = sum(charge.usd_per_hour for charge in charged.values()) * 730
    assert usd == pytest.approx(60 * 0.09)
    alone = egress(cluster, {("a", "b"): 60 * GB / 730})
    assert alone["a", "b"].usd_per_hour == 0


def test_each_byte_is_charged_at_the_step_it_falls_into() -> None:
    steps = (EgressStep(above=10e12, egress=0.085 / GB), EgressStep(above=50e12, egress=0.07 / GB))
    line = link(egress=0.09 / GB, egress_free=100 * GB, egress_steps=steps)
    month = 60e12
    usd = 9.9e3 * 0.09 + 40e3 * 0.085 + 10e3 * 0.07
    assert mean_usd_per_byte(line, month) * month == pytest.approx(usd)
    assert mean_usd_per_byte(line, 50 * GB) == 0
    assert mean_usd_per_byte(link(egress=0.09 / GB), 1) == pytest.approx(0.09 / GB)


def test_a_rental_that_is_cut_short_is_rounded_up_every_time() -> None:
    """Exponential stays of 30 min billed by the hour: 1 / (1 - exp(-2)) h in the mean."""
    churn = Churn.model_validate(
        CARD | {"id": "short", "distribution": "exponential", "up_scale": 1800, "down_scale": 1800}
    )
    rented = node("b", price=2.0, billed_by=3600, start_up=300, churn="short", trust="rented")
    made = world([node("a"), rented], [link(egress=0.01 / GB)], Deployment(), (churn,))
    lines = predict(made, two_stages()).cost_lines
    assert of(lines, "rounding", "b") == pytest.approx(2 * (1 / (1 - math.exp(-2)) - 0.5))
    starts = 2.0 * 300 / 3600 * (1 + 1 / 720)
    assert of(lines, "start_up", "b") == pytest.approx(starts, rel=1e-3)
    again = [line for line in lines if line.kind == "weights" and "again" in line.note]
    assert len(again) == 1
    assert of(lines, "repeated", "b") > 0
    paid = 2.0 / 2  # it is away half of the time
    assert standing_usd_per_hour(made, rented) > paid + of(lines, "rounding", "b")
    while_there = ("rent", "idle", "repeated")
    assert sum(of(lines, kind, "b") for kind in while_there) == pytest.approx(paid)


def test_rentals_that_never_work_are_paid_for() -> None:
    """One return an hour, of which a quarter fails: a third of ten minutes more for each."""
    values = {"id": "short", "distribution": "exponential", "up_scale": 1800, "down_scale": 1800}
    costs = []
    for dud in (0.0, 0.25):
        churn = Churn.model_validate(CARD | values | {"dud": dud, "dud_after": 600})
        rented = node("b", price=2.0, start_up=300, churn="short", trust="rented")
        made = world([node("a"), rented], [link()], Deployment(), (churn,))
        costs.append(of(predict(made, two_stages()).cost_lines, "start_up", "b"))
    assert costs[1] - costs[0] == pytest.approx(2.0 * 600 / 3600 / 3)


def test_a_node_starts_anew_after_every_maintenance() -> None:
    window = {"start": 0.0, "length": 600, "every": 7200}
    values = {"id": "served", "distribution": "planned", "maintenance": [window]}
    churn = Churn.model_validate(CARD | values | {"dud": 0.5, "dud_after": 600})
    rented = node("b", price=2.0, start_up=300, churn="served", trust="rented")
    made = world([node("a"), rented], [link()], Deployment(), (churn,))
    lines = predict(made, two_stages()).cost_lines
    expected = 2.0 * (300 * (1 / 2 + 1 / 720) + 600 / 2) / 3600
    assert of(lines, "start_up", "b") == pytest.approx(expected, rel=1e-3)
    assert of(lines, "weights", "b") == 0


def test_the_time_in_which_a_node_starts_is_no_idle_time() -> None:
    """It is there nine tenths, three of which it starts: another line, and the same sum."""
    made = world([node("a", price=1.0), node("b", price=2.0, start_up=360)], [], Deployment())
    seen = Activity(busy={"b": 0.2}, sent_bytes={}, there={"b": 0.9}, starting={"b": 0.3})
    lines = ledger(made, two_stages(), seen)
    first = 2.0 * 0.1 / 720
    assert of(lines, "rent", "b") == pytest.approx(2 * 0.2)
    assert of(lines, "idle", "b") == pytest.approx(2 * 0.4)
    assert of(lines, "start_up", "b") == pytest.approx(2 * 0.3 + first, rel=1e-3)
    rent = sum(of(lines, kind, "b") for kind in ("rent", "idle", "start_up"))
    assert rent == pytest.approx(2 * 0.9 + first, rel=1e-3)


def test_idle_power_is_paid_for_whatever_a_node_does() -> None:
    """No more than what an hour of it comes to in a plan, which adds what work draws."""
    own = node("b", price=0.0, electricity=1e-6)
    made = world([node("a"), own], [link(egress=0.01 / GB)], Deployment())
    lines = predict(made, two_stages()).cost_lines
    standing, idle_w = standing_usd_per_hour(made, own), made.cluster.device("b").idle_w
    assert idle_w
    assert standing == pytest.approx(idle_w * 3600 * 1e-6)
    assert standing < of(lines, "electricity", "b")
