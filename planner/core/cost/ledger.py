"""Ledger: every cost of a plan as a line of its own; the lines sum to the total.

What is charged: the machines that hold layers while they compute and while they wait, the ones
that only stand by or coordinate, what rental adds (start-up, rounding up, loading weights), energy,
and every byte that leaves a metered line. All figures are USD per hour in the mean over the whole
deployment, in which requests come for a share ``in_use`` of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from planner.core.cluster import Node
from planner.core.cost.availability import mean_spells_s, node_up_share
from planner.core.cost.egress import Ends, egress
from planner.core.cost.loading import first_load
from planner.core.cost.money import energy_joule
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.spec import Spec
from planner.core.units import plain, show

CostKind = Literal[
    "rent",
    "idle",
    "repeated",
    "standby",
    "coordinator",
    "start_up",
    "rounding",
    "hardware",
    "electricity",
    "egress",
    "weights",
    "verification",
    "tokens",
    "retries",
]

PARTS: Mapping[CostKind, str] = {
    "electricity": "energy",
    "egress": "egress",
    "weights": "egress",
    "hardware": "hardware",
    "verification": "verification",
    "tokens": "tokens",
    "retries": "tokens",
}
"""Part of the bill that a line belongs to; all others are rent."""

_HOUR_S = 3600.0


class CostLine(Spec):
    """One cost of one machine or line."""

    kind: CostKind
    """``rent`` is rent of the time in which work was done; what else is paid for has its own."""
    where: str
    usd_per_hour: float
    note: str = ""
    """What it is made of, in words."""

    @property
    def part(self) -> str:
        """Part of the bill."""
        return PARTS.get(self.kind, "rent")


@dataclass(frozen=True, slots=True)
class Activity:
    """What happens in an hour with requests."""

    busy: Mapping[str, float]
    """Share of the hour in which each node computes."""
    sent_bytes: Mapping[Ends, float]
    """On each line, weights not included."""
    there: Mapping[str, float] = field(default_factory=dict)
    """Share of the hour in which each node is there; what is to be expected where it is not
    named."""
    starting: Mapping[str, float] = field(default_factory=dict)
    """Share of the hour in which it is there and cannot be used yet, because it was rented anew;
    what is to be expected where it is not named."""
    repeated: Mapping[str, float] = field(default_factory=dict)
    """Share of the hour in which it computes what failed or is computed again."""
    weights_bytes: Mapping[Ends, float] = field(default_factory=dict)
    """Weights that are loaded again because a node came back or another took over."""
    audit: Mapping[str, float] = field(default_factory=dict)
    """Share of the hour in which it computes audits."""
    drafting: float = 0.0
    """Share of the hour in which a device of the coordinator drafts."""
    audit_bytes: Mapping[Ends, float] = field(default_factory=dict)


def ledger(problem: Problem, plan: Plan, activity: Activity) -> tuple[CostLine, ...]:
    """The cost lines of a plan, those of no cost left out."""
    first_bytes, first_s = first_load(problem, plan)
    lines = [*_machines(problem, plan, activity, first_s)]
    lines += _lines(problem, activity, first_bytes)
    return tuple(line for line in lines if line.usd_per_hour)


def parts(lines: Sequence[CostLine]) -> dict[str, float]:
    """USD per hour by part of the bill; rent, energy and egress are always among them."""
    sums: dict[str, list[float]] = {"rent": [], "energy": [], "egress": []}
    for line in lines:
        sums.setdefault(line.part, []).append(line.usd_per_hour)
    return {name: math.fsum(values) for name, values in sums.items()}


def total_usd_per_hour(lines: Sequence[CostLine]) -> float:
    """The sum of all lines."""
    return math.fsum(line.usd_per_hour for line in lines)


def hidden(lines: Sequence[CostLine]) -> dict[str, float]:
    """USD per hour by kind of what the rent of working machines does not show."""
    sums: dict[str, float] = {}
    for line in lines:
        if line.kind not in ("rent", "hardware", "tokens"):
            sums[line.kind] = sums.get(line.kind, 0.0) + line.usd_per_hour
    return sums


def standing_usd_per_hour(problem: Problem, node: Node) -> float:
    """What a node costs whatever it does: rent, start-up, rounding up, its price, idle power."""
    there, extra = paid_share(problem, node.id), _start_up(problem, node)
    extra += _rounding(problem, node)[0] + node.hardware_usd_per_hour
    if node.usd_per_joule:  # a device of unknown power counts as none once it is busy
        least = min(hourly_joule(problem, node, busy, there) for busy in (0.0, there))
        extra += least * node.usd_per_joule
    return node.usd_per_hour * there + extra


def paid_share(problem: Problem, name: str) -> float:
    """Share of the time that a node is there and costs something; the coordinator always is."""
    cluster = problem.cluster
    return 1.0 if name == cluster.coordinator else node_up_share(cluster, name)


def returns_per_hour(problem: Problem, name: str) -> float:
    """How often a node leaves and comes back, from maintenance as well (1/h)."""
    churn = problem.cluster.churn_of(name)
    if churn is None:
        return 0.0
    planned = math.fsum(_HOUR_S / one.every_s for one in churn.maintenance if one.every_s)
    up_s, down_s = mean_spells_s(churn)
    drawn = (1 - churn.always_on) * _HOUR_S / (up_s + down_s) if math.isfinite(up_s) else 0.0
    return planned + drawn


def _machines(
    problem: Problem, plan: Plan, activity: Activity, first_s: Mapping[str, float]
) -> Iterator[CostLine]:
    holding = set(plan.nodes)
    standbys = {standby.node for standby in plan.standbys}
    for name in sorted(holding | standbys | {problem.cluster.coordinator} | set(activity.busy)):
        node = problem.cluster.node(name)
        in_use, rent = problem.deployment.in_use, node.usd_per_hour
        there = activity.there.get(name, paid_share(problem, name))
        busy, again = activity.busy.get(name, 0.0), activity.repeated.get(name, 0.0)
        audit, starting = activity.audit.get(name, 0.0), activity.starting.get(name)
        usable = there - (starting or 0.0)
        if name in holding or (busy and name not in standbys):
            waiting = usable - (busy + audit) * in_use
            yield CostLine(kind="rent", where=name, usd_per_hour=rent * (busy - again) * in_use)
            yield CostLine(
                kind="idle",
                where=name,
                usd_per_hour=rent * waiting,
                note=f"computes {busy * in_use / (there or 1.0):.1%} of the time it is paid for",
            )
        else:
            kind: CostKind = "standby" if name in standbys else "coordinator"
            waiting = usable - (again + audit) * in_use
            yield CostLine(kind=kind, where=name, usd_per_hour=rent * waiting)
        yield CostLine(
            kind="repeated",
            where=name,
            usd_per_hour=rent * again * in_use,
            note="failed work and work done again",
        )
        yield CostLine(kind="verification", where=name, usd_per_hour=rent * audit * in_use)
        yield from _fixed(problem, node, first_s.get(name, 0.0), starting)
        if node.usd_per_joule and node.device is not None:
            drafts = activity.drafting if name == problem.cluster.coordinator else 0.0
            drafts = min(drafts / node.count, max(0.0, there - busy - audit))
            joule = hourly_joule(problem, node, busy + audit + drafts, there)
            yield CostLine(kind="electricity", where=name, usd_per_hour=joule * node.usd_per_joule)


def hourly_joule(problem: Problem, node: Node, busy: float, there: float) -> float:
    """Energy of an hour of a node (J), the time without requests included."""
    if node.device is None:
        return 0.0
    device, in_use = problem.cluster.device(node.id), problem.deployment.in_use
    times = (busy * in_use * _HOUR_S, there * _HOUR_S)
    return energy_joule(*times, device.tdp_w, device.idle_w) * node.count


def _fixed(
    problem: Problem, node: Node, loading_s: float, starting: float | None
) -> Iterator[CostLine]:
    """What a machine costs once, or with every new rental.

    ``starting`` is the share of the time in which it was seen to start anew; None where new rentals
    are as often as is to be expected.
    """
    period_h = problem.deployment.period_h
    yield CostLine(
        kind="hardware",
        where=node.id,
        usd_per_hour=node.hardware_usd_per_hour,
        note=f"{node.purchase_usd:,.0f} USD over {node.lifetime_s / 31557600:.3g} years",
    )
    loading = node.usd_per_hour * loading_s / _HOUR_S / period_h
    yield CostLine(
        kind="start_up",
        where=node.id,
        usd_per_hour=_start_up(problem, node, starting) + loading,
        note=", ".join(
            f"{show(seconds, 's', 3)} {what}"
            for seconds, what in ((node.start_up_s, "until it starts"), (loading_s, "to load"))
            if seconds
        ),
    )
    usd, said = _rounding(problem, node)
    yield CostLine(kind="rounding", where=node.id, usd_per_hour=usd, note=said)


def _start_up(problem: Problem, node: Node, starting: float | None = None) -> float:
    """Rent of the time in which a node starts; duds among the rentals are paid for as well."""
    first_h, again = node.start_up_s / _HOUR_S, starting
    if again is None:
        churn = problem.cluster.churn_of(node.id)
        duds_s = churn.dud / (1 - churn.dud) * churn.dud_after_s if churn is not None else 0.0
        again = (first_h + duds_s / _HOUR_S) * returns_per_hour(problem, node.id)
    return node.usd_per_hour * (first_h / problem.deployment.period_h + again)


def _rounding(problem: Problem, node: Node) -> tuple[float, str]:
    """What rounding every rental up to the increment adds.

    A rental that lasts exponentially long with mean m is billed i / (1 - exp(-i / m)) in the mean
    (a geometric number of increments i), so it pays that less m too much.
    """
    step_h, period_h = node.billed_by_s / _HOUR_S, problem.deployment.period_h
    if not step_h or not node.usd_per_hour:
        return 0.0, ""
    said = f"billed by {step_h:.3g} h"
    churn = problem.cluster.churn_of(node.id)
    if churn is None:
        over_h = math.ceil(period_h / step_h * (1 - 1e-12)) * step_h - period_h
        return node.usd_per_hour * over_h / period_h, said
    mean_h = mean_spells_s(churn)[0] / _HOUR_S
    over_h = step_h / -math.expm1(-step_h / mean_h) - mean_h if math.isfinite(mean_h) else 0.0
    return node.usd_per_hour * over_h * returns_per_hour(problem, node.id), said


def _lines(
    problem: Problem, activity: Activity, first_bytes: Mapping[Ends, float]
) -> Iterator[CostLine]:
    """Bytes on metered lines: activations and answers, weights, audits; they share allowances."""
    in_use, period_h = problem.deployment.in_use, problem.deployment.period_h
    kinds: tuple[tuple[CostKind, Mapping[Ends, float], float, str], ...] = (
        ("egress", activity.sent_bytes, in_use, "prompts, hidden states and answers"),
        ("weights", first_bytes, 1 / period_h, "weights, once"),
        ("weights", activity.weights_bytes, in_use, "weights again after a loss"),
        ("verification", activity.audit_bytes, in_use, "inputs and outputs for audits"),
    )
    everything = [
        (ends, size_bytes * share)
        for _, sent, share, _ in kinds
        for ends, size_bytes in sent.items()
    ]
    charges = egress(problem.cluster, everything)
    for kind, sent, share, said in kinds:
        for ends, size_bytes in sent.items():
            charge = charges.get(ends)
            if charge is None or not charge.listed_usd_per_byte:
                continue
            gigabytes = size_bytes * share * 730 / 1e9
            tier = f" ({charge.tier})" if charge.tier else ""
            yield CostLine(
                kind=kind,
                where=f"{ends[0]} -> {ends[1]}",
                usd_per_hour=size_bytes * share * charge.usd_per_byte,
                note=f"{said}: {plain(gigabytes, 3)} GB a month at {charge.usd_per_byte * 1e9:.3g} "
                f"of {charge.listed_usd_per_byte * 1e9:.3g} USD/GB{tier}",
            )
