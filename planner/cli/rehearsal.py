"""Losses of nodes that a user has a run rehearse, as they are written on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.core.errors import UsageError

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.run.losses import Loss

_LOSS = re.compile(r"(?P<node>[^@]+)@(?P<at>[^+]+)(\+(?P<away>.+))?")


def losses_of(plan: Plan, lose: Sequence[str], hang: Sequence[str]) -> list[Loss]:
    """The losses that ``--lose`` and ``--hang`` ask for; raises UsageError."""
    return [_loss(plan, text, hangs=False) for text in lose] + [
        _loss(plan, text, hangs=True) for text in hang
    ]


def _loss(plan: Plan, text: str, hangs: bool) -> Loss:
    from planner.core.units import parse
    from planner.run.losses import Loss

    option = "--hang" if hangs else "--lose"
    example = f"write it like {option} NODE@3s, or NODE@3s+10s for a node that comes back"
    match = _LOSS.fullmatch(text)
    if match is None:
        raise UsageError(f"{option} {text}: a loss names a node and a time", example)
    names = [*plan.nodes, *(standby.node for standby in plan.standbys)]
    if match["node"] not in names:
        known = ", ".join(dict.fromkeys(names))
        raise UsageError(
            f"{option} {text}: the plan has no node {match['node']}", f"it has {known}"
        )
    try:
        at_s = parse(match["at"], "s")
        away_s = None if match["away"] is None else parse(match["away"], "s")
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}", example) from None
    return Loss(match["node"], at_s, away_s, hangs)
