"""How nodes come and go, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.core.cluster import Churn, Window
from planner.core.cost.availability import mean_spells_s, up_share
from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.units import show
from planner.core.words import figure

_CYCLES = 10
"""Mean times up and away that a run has to last to say how often nodes are there: all of them are
in the beginning, which weighs about a tenth then."""


def long_run_text(problem: Problem, plan: Plan, availability: float | None) -> str:
    """The availability of a plan whose nodes come and go; empty where none of them does."""
    if availability is None or not any(map(problem.cluster.churn_of, plan.nodes)):
        return ""
    return f"Its nodes come and go: predicted availability in the long run is {availability:.2%}."


def short_run_text(problem: Problem, plan: Plan, lasted_s: float, expected: Metrics) -> str:
    """That a run was too short to say how often nodes are there; empty where it was not.

    ``expected`` is what is predicted for the long run.
    """
    names = dict.fromkeys((*plan.nodes, *(one.node for one in plan.standbys)))
    profiles = {name: one for name in names if (one := problem.cluster.churn_of(name))}
    spells = [(*mean_spells_s(one), name) for name, one in profiles.items()]
    spells = [one for one in spells if math.isfinite(one[0])]
    if not spells or expected.availability is None:
        return ""
    up_s, away_s, name = max(spells, key=lambda one: one[0] + one[1])
    if lasted_s >= _CYCLES * (up_s + away_s):
        return ""
    spent = f", {figure('usd_per_hour', usd)}" if (usd := expected.usd_per_hour) else ""
    return (
        f"{_time(lasted_s)} are short for nodes that come and go ({name}: {_time(up_s)} up and "
        f"{_time(away_s)} away in the mean): all nodes are up at the start, and availability, "
        f"losses and cost per hour are those of this run; predicted for the long run: "
        f"{expected.availability:.2%} available{spent}"
    )


def churn_text(profile: Churn) -> str:
    """A churn profile in one line."""
    return ", ".join([f"there {up_share(profile):.1%} of the time", *_clauses(profile)])


def _clauses(profile: Churn) -> Iterator[str]:
    up_s, away_s = mean_spells_s(profile)
    if math.isfinite(up_s):
        yield f"{_time(up_s)} up and {_time(away_s)} away in the mean ({profile.distribution})"
    if profile.always_on:
        yield f"{profile.always_on:.0%} of such nodes never leave"
    for window in profile.maintenance:
        yield _maintenance(window)
    if profile.notice_s:
        yield f"says so {_time(profile.notice_s)} before"
    if profile.dud:
        yield f"{profile.dud:.0%} of new rentals are duds, paid for {_time(profile.dud_after_s)}"


def _maintenance(window: Window) -> str:
    start, length = _time(window.start_s), _time(window.length_s)
    if window.every_s is None:
        return f"maintenance of {length} once, at {start}"
    return f"maintenance of {length} every {_time(window.every_s)}, from {start} on"


def _time(seconds: float) -> str:
    return show(seconds, "s", 3)
