"""Infeasible: which must-have binds, which plan came nearest, what would mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.core.errors import InfeasibleError
from planner.core.problem import Problem
from planner.core.requirements import OBJECTIVES, Miss, MustHave
from planner.core.units import plain, show
from planner.plan.classes import allowed_nodes
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
        mend: Mend | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.constraint = constraint
        self.nearest = nearest
        self.mend = mend


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


def missed_bounds(problem: Problem, nearest: Solution, mend: Mend | None) -> NoPlanError:
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
    hint += f"; the smallest change that makes a plan possible: {mend.text}" if mend else ""
    message = f"no plan meets the must-haves; {first} binds"
    return NoPlanError(first, message, hint, nearest, mend)


def _told(miss: Miss) -> str:
    """The bound as it was asked, and the value in as many digits as tell it from that."""
    digits = range(4, 10)
    exact = (plain(miss.bound, count) for count in digits)
    asked = next((one for one in exact if float(one.replace(",", "")) == miss.bound), "")
    asked = asked or plain(miss.bound)
    value = "is unknown"
    if miss.value is not None:
        several = [plain(miss.value, count) for count in digits]
        value = next((one for one in several if one != asked), several[-1])
    return f"{miss.metric} {value} where {asked} is asked"
