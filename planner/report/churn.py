"""How nodes come and go, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.core.cluster import Churn, Window
from planner.core.cost.availability import mean_spells_s, up_share
from planner.core.units import show


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
