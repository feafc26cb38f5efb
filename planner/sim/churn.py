"""When nodes are away: alternating up and down times, or a recorded series."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from planner.core.cluster import Churn, Cluster
from planner.core.rng import stream

Outage = tuple[float, float]
"""When a node goes and when it is back (s)."""


def outages(cluster: Cluster, node_id: str, seed: int) -> Iterator[Outage]:
    """The outages of a node in order, without end unless it stays; all start up, at 0.

    Nodes of one zone under one churn profile share their random numbers: they go together. The
    numbers depend on nothing else, so two plans lose the same nodes at the same moments.
    """
    node = cluster.node(node_id)
    profiles = {churn.id: churn for churn in cluster.churn}
    if node.churn is None:
        return iter(())
    churn = profiles[node.churn]
    if churn.recorded:
        return _recorded(churn)
    return _drawn(churn, seed, f"zone {node.zone}" if node.zone else node.id)


def _drawn(churn: Churn, seed: int, name: str) -> Iterator[Outage]:
    rng = stream(seed, "churn", churn.id, name)
    if rng.random() < churn.always_on:
        return
    now_s = 0.0
    while True:
        gone_s = now_s + rng.weibullvariate(churn.up_scale_s, churn.up_shape)
        now_s = gone_s + rng.weibullvariate(churn.down_scale_s, churn.down_shape)
        yield gone_s, now_s


def _recorded(churn: Churn) -> Iterator[Outage]:
    """The recorded steps, over and over; a step function, so its availability is exact."""
    if all(churn.recorded):
        return
    gone: int | None = None
    for step, up in enumerate(itertools.cycle(churn.recorded)):
        if not up and gone is None:
            gone = step
        elif up and gone is not None:
            yield gone * churn.step_s, step * churn.step_s
            gone = None
        if gone is not None and not any(churn.recorded):
            yield 0.0, float("inf")
            return
