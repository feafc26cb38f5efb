"""Coordinator: the pipelines of a plan under their shares of the load, at one coordinator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from planner.core.cost.traversal import one_coordinator
from planner.core.problem import Problem
from planner.plan.breakdown import Served

_LOOKS, _FULL = 60, 1e-9
"""Looks at most, until the coordinator is asked for all of its time, to such a share."""
_MANY = 1e200
"""Chances that are so many times that of nobody: the coordinator is never idle."""

Serve = Callable[[float], list[Served]]
"""All pipelines, each job of theirs waiting so long (s) until the coordinator takes it up."""


def at_one_coordinator(problem: Problem, serve: Serve) -> list[Served]:
    """The pipelines with the wait for each other at the coordinator.

    It takes their jobs up one by one, first come, first served, so each waits alike: at least as
    long as it takes until the rates of all of them ask for no more time than there is.
    """
    found = serve(0.0)
    if len(found) == 1 or not one_coordinator(problem):
        return found
    if problem.workload.concurrency is None:
        waits_s = _crowd_s(found)
        found = serve(waits_s) if waits_s else found
    return found if _asked(found) <= 1 else _full(serve, found)


def _asked(served: Sequence[Served]) -> float:
    """Share of the coordinator's time that pipelines ask for."""
    return math.fsum(one.coordinator_share for one in served)


def _full(serve: Serve, found: list[Served]) -> list[Served]:
    """The pipelines with the wait that leaves the coordinator no time, and asks for no more.

    With users that wait for answers, a rate is the inverse of a sum in which the wait counts for
    every job; so the inverse of what is asked for is nearly linear in the wait.
    """
    waits_s = low_s = 0.0
    high_s, below, above = math.inf, 1 / _asked(found), math.inf
    for _ in range(_LOOKS):
        if math.isinf(high_s):
            step_s = (1 / below - 1) * max(one.decode.total_s for one in found)
            waits_s = max(2 * low_s, step_s)
        else:
            waits_s = low_s + (high_s - low_s) * (1 - below) / (above - below)
        found = serve(waits_s)
        asked = _asked(found)
        if abs(asked - 1) < _FULL:
            break
        if asked > 1:
            low_s, below = waits_s, 1 / asked
        else:
            high_s, above = waits_s, 1 / asked
    return found


def _crowd_s(served: Sequence[Served]) -> float:
    """Wait of a job for the other pipelines that have requests, which come on their own (s).

    Requests go to pipelines in turn, so that of R much alike min(n, R) have any of n requests. The
    coordinator has a round of each to serve until the first of them is due again; S(n) is what a
    request takes so. Their number is then a birth-death chain, P(n) = P(n - 1) r S(n) / n. A round
    is waited for in proportion to the rounds that are made in each state.
    """

    def mean(value: Callable[[Served], float]) -> float:
        return math.fsum(map(value, served)) / len(served)

    round_s = mean(lambda one: one.load.groups * one.decode.coordinator_s)
    way_s = mean(lambda one: one.decode.total_s)
    if len(served) * round_s <= way_s or any(one.felt.overloaded for one in served):
        return 0.0
    rate = math.fsum(one.felt.requests_per_s for one in served)
    alone_s = mean(lambda one: one.felt.e2el_s["mean"])
    jobs = 1 + mean(lambda one: one.load.steps)
    chance, number = 1.0, 0
    rounds = made = waited_s = 0.0
    while number < len(served) or rounds > _FULL * made:
        number += 1
        late_s = max(0.0, min(number, len(served)) * round_s - way_s)
        chance *= rate * (alone_s + jobs * late_s) / number
        rounds = chance * number / (way_s + late_s)
        made += rounds
        waited_s += rounds * late_s
        if made > _MANY:
            return late_s
    return waited_s / made
