"""Infeasible: which must-have binds, which plan came nearest, what would mend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.core.cluster import Node
from planner.core.errors import InfeasibleError
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import OBJECTIVES, Miss, MustHave, at_least
from planner.core.units import plain, show
from planner.core.words import label, unit_of
from planner.plan.classes import allowed_nodes
from planner.plan.predict import predict
from planner.plan.room import capacity_bytes, draft_without_room, needs
from planner.plan.solution import Solution

if TYPE_CHECKING:
    from planner.plan.mend import Mend


class NoPlanError(InfeasibleError):
    """No plan meets the must-haves; carries the binding constraint and the nearest miss."""

    def __init__(
        self,
        constraint: str,
        message: str,
        hint: str,
        nearest: Solution | None = None,
        mends: tuple[Mend, ...] = (),
    ) -> None:
        super().__init__(message, hint)
        self.constraint = constraint
        self.nearest = nearest
        self.mends = mends
        """Changes that make a plan possible together; the last one's problem has all of them."""

    @property
    def mend(self) -> Mend | None:
        """The change that is enough by itself; None where none was found."""
        return self.mends[0] if len(self.mends) == 1 else None


def no_nodes(problem: Problem) -> NoPlanError:
    """No worker lies where layers may be placed."""
    must = problem.requirements.must_have
    regions = sorted({node.region for node in problem.cluster.workers})
    if must.trust and must.regions is None and not must.forbid_regions:
        trusted = sorted({node.trust for node in problem.cluster.workers})
        return NoPlanError(
            "trust",
            f"no node is trusted as must_have.trust asks ({must.trust})",
            f"the trust of the nodes is {', '.join(trusted)}",
        )
    return NoPlanError(
        "regions",
        "no node lies in a region where layers may be placed",
        f"the nodes are in {', '.join(regions)}; widen must_have.regions",
    )


def no_quality(problem: Problem) -> NoPlanError:
    """No quantization keeps the quality asked for."""
    family, floor = problem.model.family, problem.requirements.must_have.quality or 0.0
    known = {quant.id: quant.quality_for(family) for quant in problem.quants}
    said = ", ".join(
        f"{name} {'unknown' if value is None else format(value, '.4g')}"
        for name, value in known.items()
    )
    best = max((value for value in known.values() if value is not None), default=None)
    mend = "add a wider scheme, such as bf16, to quants"
    if best is not None:
        mend += f", or lower must_have.quality to {best:.4g}"
    return NoPlanError("quality", f"no quantization keeps {floor:.4g} of the quality: {said}", mend)


def no_draft(problem: Problem) -> NoPlanError:
    """The draft model fits at no seat of the coordinator."""
    hint = "draft with a smaller model, or have a coordinator with more memory or fewer users"
    return NoPlanError("draft", draft_without_room(problem), hint)


def no_room(problem: Problem) -> NoPlanError:
    """The model does not fit, or only over links that do not exist."""
    nodes = allowed_nodes(problem)
    room = sum(capacity_bytes(problem, node.id) for node in nodes)
    layers = problem.model.num_hidden_layers
    smallest = min(problem.quants, key=lambda q: needs(problem, 0, layers, q.id, 1).total_bytes)
    need = needs(problem, 0, layers, smallest.id, 1)
    if heavy := _too_heavy(problem, smallest.id, nodes):
        return NoPlanError("memory", heavy, "have a node with more memory, or a narrower scheme")
    missing = need.total_bytes - room
    if missing > 0:
        message = (
            f"{problem.model.id} in {smallest.id} needs {show(need.total_bytes, 'bytes')} for one "
            f"request, the nodes have {show(room, 'bytes')}: {show(missing, 'bytes')} are missing"
        )
        return NoPlanError("memory", message, "add a node, or a narrower scheme to quants")
    message = (
        f"{problem.model.id} needs {show(need.total_bytes, 'bytes')} of {show(room, 'bytes')}, but "
        "no order of nodes that can reach each other holds it with whole layers"
    )
    return NoPlanError(
        "memory", message, "add memory or a node, or links between the nodes that are there"
    )


def _too_heavy(problem: Problem, quant_id: str, nodes: Sequence[Node]) -> str:
    """Which layer has no room on any node even by itself; empty where all have."""
    layers = range(problem.model.num_hidden_layers)
    heaviest = max(layers, key=lambda at: needs(problem, at, at + 1, quant_id, 1).total_bytes)
    most: dict[int, float] = {}
    for node in nodes:
        most[node.count] = max(most.get(node.count, 0.0), capacity_bytes(problem, node.id))
    alone = {
        count: needs(problem, heaviest, heaviest + 1, quant_id, 1, count).total_bytes
        for count in most
    }
    if any(alone[count] <= room for count, room in most.items()):
        return ""
    ends = {0: " and the embedding", len(layers) - 1: " and the head"}.get(heaviest, "")
    return (
        f"layer {heaviest}{ends} of {problem.model.id} in {quant_id} takes "
        f"{show(min(alone.values()), 'bytes')} for one request, and no node has more than "
        f"{show(max(most.values()), 'bytes')} to use"
    )


def nothing_simple(name: str) -> NoPlanError:
    """A baseline that finds no plan; the search may."""
    return NoPlanError(
        "algorithm",
        f"{name} makes no plan that fits, is linked and meets the must-haves",
        "leave --algorithm out: the search looks at every plan",
    )


def relaxed_problem(problem: Problem) -> Problem:
    """The problem without bounds on numbers; regions and quality stay."""
    must = problem.requirements.must_have
    kept = MustHave(
        quality=must.quality,
        regions=must.regions,
        forbid_regions=must.forbid_regions,
        trust=must.trust,
    )
    requirements = problem.requirements.model_copy(update={"must_have": kept})
    return problem.model_copy(update={"requirements": requirements})


def with_objective(problem: Problem, metric: str) -> Problem:
    """The problem with the objective that serves a metric best."""
    serving = [name for name, (served, *_) in OBJECTIVES.items() if served == metric]
    known = serving and not ("tpot" in metric and problem.workload.output.max_tokens < 2)
    objective = serving[0] if known else problem.requirements.objective
    requirements = problem.requirements.model_copy(update={"objective": objective})
    return problem.model_copy(update={"requirements": requirements})


def near_miss(problem: Problem, plan: Plan, value: float) -> Solution:
    """A plan that misses something, as a solution whose bound says nothing."""
    prediction = predict(problem, plan)
    return Solution(
        plan=plan, prediction=prediction, value=value, bound=value, gap=0.0, solver="nearest miss"
    )


def proposed(mends: tuple[Mend, ...]) -> str:
    """What to change, in words; empty where nothing is known to help."""
    if not mends:
        return ""
    said = " and ".join(mend.text for mend in mends)
    if len(mends) == 1:
        return f"; the smallest change that makes a plan possible: {said}"
    return f"; no single change makes a plan possible, these do together: {said}"


def missed_bounds(problem: Problem, nearest: Solution, mends: tuple[Mend, ...]) -> NoPlanError:
    """The nearest plan, which bounds it misses, and the smallest change that helps."""
    must = problem.requirements.must_have
    misses = must.missed(nearest.prediction.metrics)
    changes = [_told(miss) for miss in misses]
    if must.max_nodes is not None and len(nearest.plan.nodes) > must.max_nodes:
        changes.append(
            f"it takes {len(nearest.plan.nodes)} nodes where {must.max_nodes} "
            f"{'is' if must.max_nodes == 1 else 'are'} allowed"
        )
    first = misses[0].metric if misses else "max_nodes"
    where = " and ".join(" -> ".join(pipeline.nodes) for pipeline in nearest.plan.pipelines)
    what = "; ".join(changes) or "each pipeline alone misses a bound"
    hint = f"the nearest plan is {where}: {what}"
    hint += proposed(mends)
    name = label(first) if misses else "the number of nodes"
    message = f"no plan meets the must-haves; {name} binds"
    return NoPlanError(first, message, hint, nearest, mends)


def _told(miss: Miss) -> str:
    """The bound as it was asked, and the value in as many digits as tell it from that."""
    digits = range(4, 10)
    exact = (plain(miss.bound, count) for count in digits)
    asked = next((one for one in exact if float(one.replace(",", "")) == miss.bound), "")
    asked = asked or plain(miss.bound)
    value, unit = "is unknown", unit_of(miss.metric)
    if miss.value is not None:
        several = [plain(miss.value, count) for count in digits]
        value = next((one for one in several if one != asked), several[-1])
        value = f"{value} {unit}".rstrip()
    least = "least" if at_least(miss.metric) else "most"
    return f"{label(miss.metric)} {value}, at {least} {f'{asked} {unit}'.rstrip()} is asked"
