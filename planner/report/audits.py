"""Audits in words and figures: what they cost and how soon they catch a cheat."""

from __future__ import annotations

from collections.abc import Iterator

from planner.core.cost.verification import VerificationCost


def audits_text(cost: VerificationCost | None) -> Iterator[str]:
    """Lines about the audits of a plan; none where nodes are taken at their word."""
    if cost is None:
        return
    yield (
        f"Audits: {100 * cost.audit_share:.3g} % of all sessions are computed again by stage: "
        f"{cost.overhead:.2%} more work and {cost.usd_per_hour:.3g} USD/h"
    )
    if cost.sessions_until_caught is not None:
        yield (
            f"  a node that always cheats is caught within {cost.sessions_until_caught:.0f} "
            "sessions with a chance of 95 %"
        )
    for node, who in cost.verifiers.items():
        yield f"  {node} is audited by {who or 'nobody: no other node can hold its layers'}"
