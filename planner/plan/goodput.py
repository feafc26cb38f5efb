"""Goodput: requests per second that meet every bound on a latency, with nodes that come and go.

While all its nodes are there, a pipeline serves a rate of requests, a share of which meets the
bounds. Of an hour it loses the time in which a stage has no node, the time in which losses are
noticed and made good, and, for every loss that takes so long that requests under way miss a bound,
as much time as a request takes: by Little's law that is who is under way. Bounds are those that
``core.metrics`` counts good requests by.

Requests that come on their own pile up while it is out, and are good if they do not wait too long.
That is a fluid queue whose server is out for a share q of the time, for exponential times of mean D
(Mitra 1988): at a utilisation u a share q / (1 - u) of the requests waits, longer than s one of
exp(s (1 - q u / (1 - q) / (1 - u)) / D) of these; with q + u >= 1 the queue grows for ever.
"""

from __future__ import annotations

import math

import numpy as np

from planner.core.cost.outage import Outage, outage
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.plan.breakdown import Served
from planner.plan.costs import Array

_HOUR_S = 3600.0


def outages(problem: Problem, plan: Plan, served: list[Served]) -> list[Outage]:
    """What losses of nodes take from each pipeline at its load."""
    return [outage(problem, plan, index, one.felt.batch) for index, one in enumerate(served)]


def lost_s(problem: Problem, one: Served, out: Outage) -> dict[str, float]:
    """Seconds of an hour in which a pipeline serves no good request, by cause."""
    spare_s = min(_spare_s(one), problem.serving.patience_s)
    late = {"late": out.losses * _late_s(one, out.each_s)} if out.losses else {}
    parts = _out_s(one, out, spare_s)
    parts |= {} if "overloaded" in parts else late
    return {name: seconds for name, seconds in parts.items() if seconds > 0}


def answered_share(problem: Problem, one: Served, out: Outage) -> float:
    """Share of what a pipeline answers while its nodes are there that it answers in the long run.

    Open arrivals fail that wait longer than ``serving.patience``.
    """
    lost = _out_s(one, out, problem.serving.patience_s)
    if "overloaded" in lost:
        return (1 - (out.away_s + out.recovering_s) / _HOUR_S) / one.felt.used
    return max(0.0, 1 - sum(lost.values()) / _HOUR_S)


def _out_s(one: Served, out: Outage, spare_s: float) -> dict[str, float]:
    """Seconds of an hour that users wait, those who come on their own longer than ``spare_s``."""
    if not out.losses:
        return {"away": out.away_s}
    away_s, recovery_s = out.away_s, out.recovering_s / out.losses
    if one.load.users is None:
        used, share = one.felt.used, (out.away_s + out.recovering_s) / _HOUR_S
        if used + share >= 1:
            return {"overloaded": _HOUR_S}
        recovery_s = max(0.0, recovery_s - spare_s) / (1 - used)
        if away_s:
            slower = 1 - share * used / (1 - share) / (1 - used)
            away_s *= math.exp(-spare_s * out.strandings / out.away_s * slower) / (1 - used)
    return {"away": away_s, "recovering": out.losses * recovery_s}


def most_kept(problem: Problem, used: float, there: Array) -> tuple[Array, Array]:
    """The most of its requests that a pipeline answers, and answers in time, in the long run.

    It is ``there`` for that share of the time at most, and comes to ``used`` of what it can serve.
    Open arrivals may all wait until it is back, unless more come than it is there to serve.
    """
    if problem.workload.concurrency is not None:
        return there, there
    return np.minimum(1.0, there / used), np.where(used >= there, there, 1.0)


def goodput(one: Served, lost: dict[str, float]) -> float:
    """Good requests per second of a pipeline in the long run."""
    kept = max(0.0, 1 - sum(lost.values()) / _HOUR_S)
    return one.felt.requests_per_s * one.felt.good * kept


def _spare_s(one: Served) -> float:
    """How much longer a first token may take."""
    felt, bounds_s = one.felt, one.load.bounds_s
    return bounds_s.get("ttft", math.inf) - felt.ttft_s.get("mean", 0.0)


def _late_s(one: Served, out_s: float) -> float:
    """How long requests are under way that miss a bound if they stand still for so long (s)."""
    felt, bounds_s, later = one.felt, one.load.bounds_s, one.load.later_tokens
    if not out_s or not felt.e2el_s:
        return 0.0
    e2el_s = felt.e2el_s["mean"]
    if later and felt.tpot_s["mean"] + out_s / later > bounds_s.get("tpot", math.inf):
        return e2el_s
    if e2el_s + out_s > bounds_s.get("e2el", math.inf):
        return e2el_s
    return felt.ttft_s["mean"] if out_s > _spare_s(one) else 0.0
