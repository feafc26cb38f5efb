"""When nodes are away: alternating up and down times, or a recorded series."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator

from planner.core.cluster import Churn, Cluster, Window
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
    drawn: Iterator[Outage] = iter(())
    if churn.recorded:
        drawn = _recorded(churn)
    elif churn.distribution != "planned":
        drawn = _drawn(churn, seed, f"zone {node.zone}" if node.zone else node.id)
    return _joined(drawn, *map(_planned, churn.maintenance)) if churn.maintenance else drawn


def delays(cluster: Cluster, node_id: str, seed: int) -> Iterator[tuple[int, float]]:
    """For every return of a node: rentals that were duds, and the time until it can be used (s).

    Each rental is a dud with the same probability, whatever the zone.
    """
    node, churn = cluster.node(node_id), cluster.churn_of(node_id)
    share, paid_s = (churn.dud, churn.dud_after_s) if churn is not None else (0.0, 0.0)
    rng = stream(seed, "duds", node_id)
    while True:
        duds = 0
        while share and rng.random() < share:
            duds += 1
        yield duds, duds * paid_s + node.start_up_s


def _planned(window: Window) -> Iterator[Outage]:
    """The times of maintenance."""
    if window.every_s is None:
        yield window.start_s, window.start_s + window.length_s
        return
    for number in itertools.count():
        begin_s = window.start_s + number * window.every_s
        yield begin_s, begin_s + window.length_s


def _joined(*several: Iterator[Outage]) -> Iterator[Outage]:
    """Outages of several causes in order, those that overlap as one."""
    every = heapq.merge(*several)
    now = next(every, None)
    while now is not None:
        following = next(every, None) if now[1] < math.inf else None
        if following is not None and following[0] <= now[1]:
            now = now[0], max(now[1], following[1])
        else:
            yield now
            now = following


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
