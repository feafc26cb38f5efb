"""Routed: what users feel under the shares of open arrivals that the router really gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from planner.core.problem import Problem
from planner.plan.balance import balanced
from planner.plan.breakdown import Served
from planner.plan.queueing import Felt, completed_per_s, felt


def as_routed(problem: Problem, served: Sequence[Served]) -> list[Felt]:
    """What users of each pipeline feel under the share of open arrivals that it really gets.

    The router looks at what is on the pipelines, so unlike ones do not get what their weights say,
    and a request waits only where all have to. A closed loop, turns that stay where their session
    is, and a load that a pipeline could not serve by its weight alone are as weighed.
    """
    weighed = [one.felt for one in served]
    rate = problem.workload.requests_per_s
    stay = problem.workload.sessions is not None and problem.serving.sticky_sessions
    if rate is None or stay or any(one.overloaded for one in weighed):
        return weighed
    kinds = [(done_per_s(one), one.pipeline.weight) for one in served]
    if len(set(kinds)) == 1:
        return weighed
    found = [
        felt(replace(one.load, share=share, requests_per_s=rate * share, pool=pool), one.steps)
        for one, (share, pool) in zip(served, balanced(kinds, rate), strict=True)
    ]
    return weighed if any(one.overloaded for one in found) else found


def done_per_s(one: Served) -> tuple[float, ...]:
    """Requests per second that it completes with 1, 2, ... on it up to its seats.

    Without the last digits, which rounding makes different of pipelines that are alike.
    """
    return tuple(float(f"{rate:.9g}") for rate in completed_per_s(one.load, one.steps))
