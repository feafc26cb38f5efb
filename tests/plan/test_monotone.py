"""What everybody knows of plans without solving anything: more is no worse, dearer is dearer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from planner.core.cluster import Cluster
from planner.core.problem import Problem
from planner.core.requirements import BOUNDED, OBJECTIVES, MustHave, Requirements
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import as_cost
from planner.plan.solution import Solution
from planner.plan.solve import solve as weighed
from tests.plan.worlds import problems

QUICK = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def changed(world: Problem, **changes: Any) -> Problem:
    """The same problem with other values, checked and with a digest of its own."""
    values = {name: getattr(world, name) for name in Problem.model_fields}
    return Problem.model_validate(values | changes)


def with_cluster(world: Problem, **changes: Any) -> Problem:
    """The same problem on changed machines."""
    values = {name: getattr(world.cluster, name) for name in Cluster.model_fields}
    return changed(world, cluster=Cluster.model_validate(values | changes))


def with_bounds(world: Problem, must: MustHave) -> Problem:
    """The same problem with other must-haves."""
    values = {name: getattr(world.requirements, name) for name in Requirements.model_fields}
    requirements = Requirements.model_validate(values | {"must_have": must})
    return changed(world, requirements=requirements)


def solve(world: Problem) -> Solution:
    """The best plan whose pipelines share equally, which is proven; weights come on top."""
    return weighed(world, equal_weights=True, explain=False)


def solved(world: Problem) -> Solution:
    """The best plan; a world without one is drawn again."""
    try:
        found = solve(world)
    except NoPlanError:
        reject()
    assert found.gap == 0
    return found


def no_worse(world: Problem, before: Solution, after: Solution) -> None:
    """That ``after`` is as good, unless it serves more users at once.

    Those share what they waited for before, which an objective per token may like less.
    """
    was, now = (
        sum(pipeline.max_num_seqs for pipeline in one.plan.pipelines) for one in (before, after)
    )
    if now <= was:
        cost, least = as_cost(world, after.value), as_cost(world, before.value)
        assert cost <= least + 1e-9 * max(1.0, abs(least))


@pytest.mark.slow
@QUICK
@given(problems(bounds=True), st.data())
def test_one_more_node_is_no_loss(world: Problem, data: st.DataObject) -> None:
    twin = data.draw(st.sampled_from(world.cluster.workers))
    before = solved(world)
    renamed = {twin.id: "new"}
    links = [
        link.model_copy(
            update={"src": renamed.get(link.src, link.src), "dst": renamed.get(link.dst, link.dst)}
        )
        for link in world.cluster.links
        if twin.id in (link.src, link.dst)
    ]
    larger = with_cluster(
        world,
        nodes=(*world.cluster.nodes, twin.model_copy(update={"id": "new"})),
        links=(*world.cluster.links, *links),
    )
    no_worse(world, before, solve(larger))


@pytest.mark.slow
@QUICK
@given(problems(bounds=True), st.data())
def test_a_faster_chip_and_nearer_nodes_are_no_loss(world: Problem, data: st.DataObject) -> None:
    chip = data.draw(st.sampled_from(world.cluster.devices))
    before = solved(world)
    quicker = {
        "memory_bytes_per_s": 2 * chip.memory_bytes_per_s,
        "flop_per_s": {name: 2 * value for name, value in chip.flop_per_s.items()},
    }
    devices = tuple(
        one.model_copy(update=quicker) if one.id == chip.id else one
        for one in world.cluster.devices
    )
    no_worse(world, before, solve(with_cluster(world, devices=devices)))
    nearer = {"one_way_latency_s": 0.0}
    links = tuple(link.model_copy(update=nearer) for link in world.cluster.links)
    no_worse(world, before, solve(with_cluster(world, links=links)))


@pytest.mark.slow
@QUICK
@given(problems(bounds=True), st.data())
def test_who_asks_for_less_gets_no_worse(world: Problem, data: st.DataObject) -> None:
    must = world.requirements.must_have
    stated = sorted(must.model_fields_set)
    if not stated:
        reject()
    before = solved(world)
    name = data.draw(st.sampled_from(stated))
    kept = {one: getattr(must, one) for one in stated if one != name}
    no_worse(world, before, solve(with_bounds(world, MustHave.model_validate(kept))))


@QUICK
@given(problems(), st.sampled_from([0.5, 2.0, 10.0]))
def test_prices_scale_the_bill_and_change_no_time(world: Problem, factor: float) -> None:
    before = solved(world)
    nodes = tuple(
        node.model_copy(update={"usd_per_hour": factor * node.usd_per_hour})
        for node in world.cluster.nodes
    )
    after = predict(with_cluster(world, nodes=nodes), before.plan).metrics
    was = before.prediction.metrics
    for name in type(was).model_fields:
        old, new = getattr(was, name), getattr(after, name)
        scaled = factor if name.startswith("usd_") else 1.0
        assert new == (None if old is None else pytest.approx(scaled * old, rel=1e-9)), name


@QUICK
@given(problems(), st.data())
def test_a_bound_at_what_the_best_plan_has_keeps_it(world: Problem, data: st.DataObject) -> None:
    """Asking for exactly what is there forbids nothing; each pipeline keeps a latency by itself."""
    before = solved(world)
    metrics = before.prediction.metrics
    counted = "request_goodput" in (OBJECTIVES[term][0] for term in world.requirements.terms)
    known = [
        name
        for name in BOUNDED
        if getattr(metrics, name) is not None
        and name != "usd_per_million_output_tokens"
        and not (counted and name.endswith("_ms"))  # such a bound says which requests are good
    ]
    metric = data.draw(st.sampled_from(known))
    field, value = metric, getattr(metrics, metric)
    if metric.endswith("_ms"):
        field = metric.removesuffix("_ms") + "_s"
        value = max(getattr(one.metrics, metric) for one in before.prediction.pipelines) / 1e3
    after = solve(with_bounds(world, MustHave.model_validate({field: value})))
    no_worse(world, before, after)
    no_worse(world, after, before)
