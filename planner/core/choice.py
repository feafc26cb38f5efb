"""Choice: what a plan decides beside its stages: where the coordinator sits, how many drafts."""

from __future__ import annotations

from collections.abc import Sequence

from planner.core.cluster import Node
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import TRUST, MustHave


def seat_open(problem: Problem) -> bool:
    """Whether a plan chooses where the coordinator sits."""
    return bool(problem.cluster.coordinators)


def drafts_open(problem: Problem) -> bool:
    """Whether a plan chooses how many tokens are drafted for a check."""
    speculation = problem.serving.speculation
    return speculation is not None and speculation.at_most


def is_open(problem: Problem) -> bool:
    """Whether a plan has anything to choose beside its stages."""
    return seat_open(problem) or drafts_open(problem)


def trusted_seats(
    nodes: Sequence[Node], must: MustHave, computing: bool = False
) -> tuple[str, ...]:
    """The nodes at which a coordinator may sit that nobody named; with a device if it computes.

    It sees prompts and samples tokens: machines of unknown people are none, and layers' owners and
    regions are the least that is asked. Nodes that stay come before those that come and go: a
    coordinator that leaves takes every session with it.
    """
    out = seats_out(nodes, must, computing)
    return tuple(node.id for node in nodes if node.id not in out)


def seats_out(nodes: Sequence[Node], must: MustHave, computing: bool = False) -> dict[str, str]:
    """Why a coordinator that nobody placed may not sit at a node, of each that is no seat."""
    out = {node.id: why for node in nodes if (why := _unfit(node, must, computing))}
    able = [node for node in nodes if node.id not in out]
    if any(node.churn is None for node in able):
        out |= {node.id: "comes and goes, others stay" for node in able if node.churn is not None}
    return out


def _unfit(node: Node, must: MustHave, computing: bool) -> str:
    """What forbids a node to see prompts or to draft; empty where nothing does."""
    least = max("rented", must.trust or "rented", key=TRUST.index)
    if TRUST.index(node.trust) < TRUST.index(least):
        return f"trust is {node.trust}, asked is {least}"
    allowed = must.regions is None or node.region in must.regions
    if not allowed or node.region in must.forbid_regions:
        return f"region {node.region} is not allowed"
    if node.device is None and computing:
        return "no device for the draft"
    return ""


def decided(problem: Problem, plan: Plan) -> Problem:
    """The problem with what the plan chose; itself where nothing was left to choose."""
    if seat_open(problem):
        problem = seated(problem, (plan.coordinator or problem.cluster.coordinator,))
    if drafts_open(problem):
        most = problem.serving.speculation.draft_tokens if problem.serving.speculation else 0
        problem = drafting(problem, most if plan.draft_tokens is None else plan.draft_tokens)
    return problem


def stamped(plan: Plan, asked: Problem, leaf: Problem) -> Plan:
    """The plan with the choices that ``asked`` left open and ``leaf`` has made."""
    made: dict[str, object] = {}
    if seat_open(asked) and plan.coordinator is None:
        made["coordinator"] = leaf.cluster.coordinator
    if drafts_open(asked):
        made["draft_tokens"] = leaf.serving.draft_tokens
    return plan.model_copy(update=made) if made else plan


def chosen(plan: Plan) -> str:
    """What a plan chose beside its stages, to follow its name; empty where nothing was open."""
    said = "" if plan.coordinator is None else f", coordinator {plan.coordinator}"
    if plan.draft_tokens is None:
        return said
    return f"{said}, {plan.draft_tokens or 'no'} draft{'s' * (plan.draft_tokens != 1)}"


def seated(problem: Problem, names: tuple[str, ...]) -> Problem:
    """The problem whose coordinator sits at one of ``names``: a single one is settled."""
    seats = {"coordinator": names[0], "coordinators": names if len(names) > 1 else ()}
    return problem.model_copy(update={"cluster": problem.cluster.model_copy(update=seats)})


def drafting(problem: Problem, draft_tokens: int) -> Problem:
    """The problem with so many tokens drafted for a check; with 0 there is no draft at all."""
    speculation = problem.serving.speculation
    if speculation is None or not draft_tokens:
        serving = problem.serving.model_copy(update={"speculation": None})
        return problem.model_copy(update={"serving": serving, "draft": None})
    settled = speculation.model_copy(update={"draft_tokens": draft_tokens, "at_most": False})
    serving = problem.serving.model_copy(update={"speculation": settled})
    return problem.model_copy(update={"serving": serving})
