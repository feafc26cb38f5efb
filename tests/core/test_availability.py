"""Availability: products of what must be up, standbys in the order of the plan."""

from __future__ import annotations

import itertools

import pytest

from planner.core.cluster import Churn, Cluster, Node
from planner.core.cost.availability import node_up_share, pipeline_availability, up_share
from planner.core.plan import Pipeline, Plan, Stage, Standby
from tests.core.world import CARD, device, link


def churn(name: str, up: float) -> Churn:
    """Up for that share of the time."""
    values = {"id": name, "distribution": "exponential", "up_scale": up, "down_scale": 1 - up}
    return Churn.model_validate(values | CARD)


def cluster(shares: dict[str, float], zones: dict[str, str] | None = None) -> Cluster:
    return Cluster(
        devices=(device(),),
        nodes=(
            Node(id="home"),
            *(
                Node(
                    id=name,
                    device="chip",
                    churn=f"c{share}",
                    zone=(zones or {}).get(name, ""),
                )
                for name, share in shares.items()
            ),
        ),
        links=(link(),),
        coordinator="home",
        churn=tuple(churn(f"c{share}", share) for share in sorted(set(shares.values()))),
    )


def chain(*nodes: str, standbys: tuple[tuple[str, int], ...] = ()) -> Plan:
    stages = [
        Stage(node=name, start=index, stop=index + 1, quant="bf16")
        for index, name in enumerate(nodes)
    ]
    backing = tuple(Standby(node=name, pipeline=0, stage=stage) for name, stage in standbys)
    return Plan(pipelines=(Pipeline(stages=tuple(stages)),), standbys=backing)


def test_the_share_of_a_weibull_node_is_mean_up_over_mean_cycle() -> None:
    values = {"id": "w", "distribution": "weibull", "up_scale": 30, "up_shape": 2, "down_scale": 10}
    one = Churn.model_validate(values | CARD)
    mean_up_s = 30 * 0.886226925452758  # Gamma(1.5)
    assert up_share(one) == pytest.approx(mean_up_s / (mean_up_s + 10))


def test_stages_multiply_and_a_standby_catches_one_loss() -> None:
    world = cluster({"a": 0.9, "b": 0.8, "s": 0.7})
    assert node_up_share(world, "home") == 1.0
    assert pipeline_availability(world, chain("a", "b"), 0) == pytest.approx(0.9 * 0.8)
    one = chain("a", "b", standbys=(("s", 0),))
    assert pipeline_availability(world, one, 0) == pytest.approx((0.9 + 0.1 * 0.7) * 0.8)
    both = chain("a", "b", standbys=(("s", 0), ("s", 1)))
    expected = 0.9 * 0.8 + 0.7 * (0.1 * 0.8 + 0.9 * 0.2)
    assert pipeline_availability(world, both, 0) == pytest.approx(expected)


def test_two_standbys_are_the_sum_over_all_states() -> None:
    shares = {"a": 0.9, "b": 0.8, "c": 0.95, "s": 0.7, "t": 0.6}
    world = cluster(shares)
    plan = chain("a", "b", "c", standbys=tuple((s, i) for s in "st" for i in range(3)))
    total = 0.0
    for ups in itertools.product((True, False), repeat=5):
        chance = 1.0
        for up, share in zip(ups, shares.values(), strict=True):
            chance *= share if up else 1 - share
        total += chance if ups[:3].count(False) <= ups[3:].count(True) else 0.0
    assert pipeline_availability(world, plan, 0) == pytest.approx(total)


def test_nodes_of_a_zone_fall_together_and_do_not_replace_each_other() -> None:
    world = cluster({"a": 0.9, "b": 0.9, "s": 0.9}, {"a": "z", "b": "z", "s": "z"})
    assert pipeline_availability(world, chain("a", "b"), 0) == pytest.approx(0.9)
    backed = chain("a", standbys=(("s", 0),))
    assert pipeline_availability(world, backed, 0) == pytest.approx(0.9)
