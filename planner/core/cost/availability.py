"""Availability: the share of the time that a pipeline has a node for every stage.

Nodes come and go as alternating renewal processes (Ross, Introduction to Probability Models, 7.5).
Nodes of one zone under one churn profile go together, all others on their own.
"""

from __future__ import annotations

import math

from planner.core.cluster import Churn, Cluster
from planner.core.plan import Plan


def up_share(churn: Churn) -> float:
    """Long-run share of the time a node is up: mean up over mean cycle.

    The mean of a Weibull distribution is scale x Gamma(1 + 1/shape). Maintenance that comes again
    and again is taken as independent of it.
    """
    return _drawn_share(churn) * _kept_share(churn)


def _kept_share(churn: Churn) -> float:
    """Share of the time without maintenance."""
    return 1 - math.fsum(one.length_s / one.every_s for one in churn.maintenance if one.every_s)


def _drawn_share(churn: Churn) -> float:
    if churn.distribution == "planned":
        return 1.0
    if churn.recorded:
        return sum(churn.recorded) / len(churn.recorded)
    up_s, down_s = _means_s(churn)
    return churn.always_on + (1 - churn.always_on) * up_s / (up_s + down_s)


def mean_spells_s(churn: Churn) -> tuple[float, float]:
    """How long nodes that leave stay and are away in the mean (s).

    Of recorded ones: the time there, and the time away, by the number of departures. Maintenance
    does not count.
    """
    if churn.distribution == "planned":
        return math.inf, 0.0
    if not churn.recorded:
        return _means_s(churn)
    turned = zip(churn.recorded, (*churn.recorded[1:], churn.recorded[0]), strict=True)
    departures = sum(now and not later for now, later in turned)
    up_s = sum(churn.recorded) * churn.step_s
    away_s = (len(churn.recorded) - sum(churn.recorded)) * churn.step_s
    return (up_s / departures, away_s / departures) if departures else (math.inf, 0.0)


def _means_s(churn: Churn) -> tuple[float, float]:
    """Mean time up and away of a fitted profile (s)."""
    up_s = churn.up_scale_s * math.gamma(1 + 1 / churn.up_shape)
    return up_s, churn.down_scale_s * math.gamma(1 + 1 / churn.down_shape)


def node_up_share(cluster: Cluster, name: str) -> float:
    """Long-run share of the time that a node is there; 1 without a churn profile."""
    churn = cluster.churn_of(name)
    return up_share(churn) if churn else 1.0


def fate(cluster: Cluster, name: str) -> tuple[str, str]:
    """What nodes share that go together."""
    node = cluster.node(name)
    return (node.zone, node.churn or "") if node.zone and node.churn else ("", name)


def pipeline_availability(cluster: Cluster, plan: Plan, index: int) -> float:
    """Share of the time that every stage of a pipeline has its node or a standby.

    Stages fall one group after another; each takes the first of its standbys, in the order of the
    plan, that is up and free. A standby that goes together with the node it replaces is no help.
    """
    names = plan.pipelines[index].nodes
    backing = [
        [one.node for one in plan.standbys if (one.pipeline, one.stage) == (index, stage)]
        for stage in range(len(names))
    ]
    spares = sorted({name for row in backing for name in row})
    ready: dict[frozenset[str], float] = {frozenset(): 1.0}
    for name in spares:
        up = node_up_share(cluster, name)
        ready = {
            free | extra: chance * share
            for free, chance in ready.items()
            for extra, share in ((frozenset({name}), up), (frozenset[str](), 1 - up))
        }
    groups: dict[tuple[str, str], list[int]] = {}
    for stage, name in enumerate(names):
        groups.setdefault(fate(cluster, name), []).append(stage)
    for key, stages in groups.items():
        up = node_up_share(cluster, names[stages[0]])
        after: dict[frozenset[str], float] = {}
        for free, chance in ready.items():
            after[free] = after.get(free, 0.0) + chance * up
            left: frozenset[str] | None = free
            for stage in stages:
                usable = [name for name in backing[stage] if left and name in left]
                usable = [name for name in usable if fate(cluster, name) != key]
                left = left - {usable[0]} if left and usable else None
            if left is not None:
                after[left] = after.get(left, 0.0) + chance * (1 - up)
        ready = after
    return math.fsum(ready.values())
