"""Invariants: what holds of every run; the numbers are those of docs/invariants.md."""

from __future__ import annotations

import math
from itertools import pairwise

from planner.core.plan import Plan
from planner.sim.result import SimResult

_SLACK = 1e-9


def violations(result: SimResult, plan: Plan, requests: int) -> list[str]:
    """The invariants a run breaks, in words; none in a correct simulator."""
    broken = []
    statuses = [record.status for record in result.records]
    if len(result.records) > requests or len({record.id for record in result.records}) != len(
        statuses
    ):
        broken.append("1: a request was lost or came twice")
    for record in result.records:
        who = f"request {record.id}"
        if record.status == "failed" and not record.reason:
            broken.append(f"1: {who} failed without a reason")
        if any(later < earlier for earlier, later in pairwise(record.token_s)):
            broken.append(f"2: the clock of {who} ran backwards")
        if record.token_s and record.token_s[0] < record.arrival_s:
            broken.append(f"3: {who} had a token before it came")
        if record.status == "completed" and not record.token_s:
            broken.append(f"3: {who} was completed without a token")
    for seated, pipeline in zip(result.most_seated, plan.pipelines, strict=True):
        if seated > pipeline.max_num_seqs:
            broken.append(f"4: {seated} sequences in {pipeline.max_num_seqs} seats")
    for place, share in (result.stage_busy | result.link_busy).items():
        if not 0 <= share <= 1 + _SLACK:
            broken.append(f"5: {place} was busy {share:.3f} of the time")
    if not math.isclose(
        sum(result.cost.values()), result.metrics.usd_per_hour or 0.0, rel_tol=1e-9, abs_tol=1e-12
    ):
        broken.append("6: the parts of the cost do not sum to the total")
    return broken + _little(result) + list(result.broken)


def _little(result: SimResult) -> list[str]:
    """Little's law: requests in the system over time are the times of all requests together."""
    if any(record.status != "completed" for record in result.records):
        return []
    spent_s = math.fsum(record.e2el_s for record in result.records)
    if math.isclose(spent_s, result.presence_s, rel_tol=1e-9, abs_tol=1e-9):
        return []
    return [f"9: {result.presence_s:g} s in the system are not the {spent_s:g} s of the requests"]
