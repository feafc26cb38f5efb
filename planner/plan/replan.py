"""Replan: from a plan that runs to the one to run next, moving weights only where it pays.

Looked at: the running plan as it is; with nodes that are gone or no longer fit replaced by spare
ones, or their pipelines given up; and the plan that a quick search finds. The one that moves the
fewest bytes wins among those that come close enough to the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.core.choice import decided, seat_open, stamped
from planner.core.cost import stage_memory, transfer_time
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.units import show
from planner.plan.branches import by_drafts, every_seat
from planner.plan.classes import allowed_nodes
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import capacity_bytes, overfull, stage_needs
from planner.plan.solution import Candidate, Move, Moves, Solution
from planner.plan.standby import protected

_SPARES = 24
"""Spare nodes that are tried in the place of a lost one."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A plan that could be next."""

    plan: Plan
    prediction: Prediction
    value: float
    cost: float


@dataclass(frozen=True, slots=True)
class Most:
    """What may move at most to get to the next plan."""

    bytes: float = math.inf
    seconds: float = math.inf
    """Until the last node has loaded."""

    def allows(self, moved: Moves) -> bool:
        """Whether so much may move."""
        slack = 1 + 1e-9
        return moved.bytes <= self.bytes * slack and moved.seconds <= self.seconds * slack


ANY = Most()


def _too_much(most: Most, found: Sequence[Moves]) -> NoPlanError:
    """No plan keeps to what may move; says which comes nearest."""

    def over(moved: Moves) -> float:
        pairs = ((moved.bytes, most.bytes), (moved.seconds, most.seconds))
        return max(value / max(bound, 1e-9) for value, bound in pairs)

    least = min(found, key=over)
    allowed = [show(most.bytes, "bytes")] if math.isfinite(most.bytes) else []
    allowed += [show(most.seconds, "s")] if math.isfinite(most.seconds) else []
    needed = f"{show(least.bytes, 'bytes')} in {show(least.seconds, 's')}"
    return NoPlanError(
        "moves",
        f"no plan moves at most {' in '.join(allowed)}",
        f"the one that comes nearest moves {needed}; raise --max-moved or --max-downtime",
    )


def as_held(before: Plan, planned: Problem, now: Problem) -> Plan:
    """A plan that runs as it looks ``now``: weights of no use any more are in an unknown scheme.

    They are of another model than is asked for, or in another format of the same name.
    """

    def held(stage: Stage) -> Stage:
        weights = _weights(planned, stage.quant)
        if weights is not None and weights == _weights(now, stage.quant):
            return stage
        return stage.model_copy(update={"quant": f"{stage.quant} of {planned.model.id}, outdated"})

    pipelines = (
        pipeline.model_copy(update={"stages": tuple(map(held, pipeline.stages))})
        for pipeline in before.pipelines
    )
    return before.model_copy(update={"pipelines": tuple(pipelines)})


def _weights(problem: Problem, quant_id: str) -> tuple[object, ...] | None:
    """What tells weights apart; None for a scheme that the problem does not have."""
    quant = next((one for one in problem.quants if one.id == quant_id), None)
    if quant is None:
        return None
    model = (problem.model.id, problem.model.total_params)
    return (
        *model,
        quant.weight_bits,
        quant.beside_experts_bits,
        quant.embedding_bits,
        quant.head_bits,
    )


def moves(problem: Problem, before: Plan, after: Plan) -> Moves:
    """What each node loads to get from one plan to the other, from the new coordinator's host."""
    problem = decided(problem, after)
    home, held = problem.cluster.coordinator, _held(before)
    loads = []
    for name, wanted in _held(after).items():
        missing = sorted(layer for layer, _ in wanted - held.get(name, set()))
        quant = dict(wanted)
        size_bytes = sum(
            stage_memory(
                problem.model, start, stop, problem.quant(quant[start]), problem.engine, 0, 0, 0
            ).weights_bytes
            for start, stop in _runs(missing)
        )
        if size_bytes and name != home:
            link = problem.cluster.link(home, name)
            way = transfer_time(link, size_bytes, problem.engine, "prefill")
            loads.append(
                Move(node=name, layers=len(missing), bytes=size_bytes, seconds=way.total_s)
            )
        elif size_bytes:
            loads.append(Move(node=name, layers=len(missing), bytes=size_bytes, seconds=0.0))
    return Moves(
        loads=tuple(loads),
        released=tuple(sorted(set(held) - set(_held(after)))),
        bytes=sum(load.bytes for load in loads),
        seconds=max((load.seconds for load in loads), default=0.0),
    )


def kept(
    problem: Problem, before: Plan, searched: Solution, least_gain: float, most: Most = ANY
) -> Solution:
    """The searched solution, or one that moves less and is at most ``least_gain`` worse.

    ``least_gain`` is a share of the objective. What moves more than ``most`` is no choice. The
    bound stays that of the search. Raises NoPlanError where every plan moves too much.
    """
    best = _Choice(
        searched.plan, searched.prediction, searched.value, as_cost(problem, searched.value)
    )
    every = [best, *_repaired(problem, before)]
    choices = [one for one in every if most.allows(moves(problem, before, one.plan))]
    if not choices:
        raise _too_much(most, [moves(problem, before, one.plan) for one in every])
    lead = min(choice.cost for choice in choices)
    close = [choice for choice in choices if choice.cost <= lead + least_gain * abs(lead)]
    ranked = [
        (moves(problem, before, one.plan).bytes, _seat_moves(before, one.plan), one.cost, i)
        for i, one in enumerate(close)
    ]
    chosen = close[min(ranked)[3]]
    candidates = searched.candidates
    if chosen is not best:
        mended = Candidate(
            name="as it runs", plan=chosen.plan, prediction=chosen.prediction, value=chosen.value
        )
        candidates = (mended, *candidates)
    bound = min(as_cost(problem, searched.bound), chosen.cost)
    gap = (chosen.cost - bound) / abs(chosen.cost) if chosen.cost else 0.0
    return searched.model_copy(
        update={
            "plan": chosen.plan,
            "prediction": chosen.prediction,
            "value": chosen.value,
            "bound": as_cost(problem, bound),
            "gap": gap if gap > 1e-9 else 0.0,
            "candidates": candidates,
            "warnings": chosen.prediction.warnings,
            "moves": moves(problem, before, chosen.plan),
        }
    )


def _seat_moves(before: Plan, after: Plan) -> bool:
    """Whether the coordinator moves."""
    return after.coordinator is not None and after.coordinator != before.coordinator


def _repaired(problem: Problem, before: Plan) -> Iterator[_Choice]:
    """The running plan where it still works, or mended."""
    here = {node.id for node in allowed_nodes(problem)}
    schemes = {quant.id for quant in problem.quants}
    whole: list[Pipeline] = []
    broken: list[tuple[Pipeline, list[int]]] = []
    for pipeline in before.pipelines:
        if any(stage.quant not in schemes for stage in pipeline.stages):
            return
        lost = [
            index
            for index, stage in enumerate(pipeline.stages)
            if stage.node not in here or not _fits(problem, pipeline, stage, stage.node)
        ]
        if lost:
            broken.append((pipeline, lost))
        else:
            whole.append(pipeline)
    standbys = before.standbys if not broken else ()
    if whole:
        yield from _choice(
            problem, Plan(pipelines=tuple(whole), standbys=standbys, coordinator=before.coordinator)
        )
    for pipeline, lost in broken:
        taken = {name for one in (*whole, pipeline) for name in one.nodes}
        best: _Choice | None = None
        for mended in _mended(problem, pipeline, lost, sorted(here - taken)):
            for choice in _choice(
                problem, Plan(pipelines=(*whole, mended), coordinator=before.coordinator)
            ):
                if best is None or choice.cost < best.cost:
                    best = choice
        if best is not None:
            whole = list(best.plan.pipelines)
            yield best


def _mended(
    problem: Problem, pipeline: Pipeline, lost: list[int], spare: list[str]
) -> Iterator[Pipeline]:
    """The pipeline with each lost stage on a spare node."""
    stages = pipeline.stages
    if len(lost) == 1:
        fitting = [name for name in spare if _fits(problem, pipeline, stages[lost[0]], name)]
        for name in fitting[:_SPARES]:
            yield _replaced(pipeline, {lost[0]: name})
        return
    chosen: dict[int, str] = {}
    for index in lost:
        free = (name for name in spare if name not in chosen.values())
        found = next((name for name in free if _fits(problem, pipeline, stages[index], name)), None)
        if found is None:
            return
        chosen[index] = found
    yield _replaced(pipeline, chosen)


def _replaced(pipeline: Pipeline, names: dict[int, str]) -> Pipeline:
    stages = tuple(
        stage.model_copy(update={"node": names.get(index, stage.node)})
        for index, stage in enumerate(pipeline.stages)
    )
    return pipeline.model_copy(update={"stages": stages})


def _choice(problem: Problem, plan: Plan) -> Iterator[_Choice]:
    """The plan with its standbys, if it can run and meets the must-haves.

    Its coordinator stays where it is, if it may; else it sits where that is best. As many tokens
    are drafted as is best now: that moves nothing.
    """
    stays = seat_open(problem) and plan.coordinator in problem.cluster.seats
    free = plan.model_copy(update={"draft_tokens": None} | ({} if stays else {"coordinator": None}))
    for leaf in by_drafts(problem):
        for one in [free] if stays else every_seat(problem, free):
            yield from _settled_choice(problem, stamped(one, problem, leaf))


def _settled_choice(problem: Problem, plan: Plan) -> Iterator[_Choice]:
    try:
        if overfull(decided(problem, plan), plan):
            return
        plan = plan if plan.standbys else protected(problem, plan)
        prediction = predict(problem, plan)
    except LookupError:
        return
    value = objective_value(problem, prediction.metrics)
    if value is None or not math.isfinite(value) or not admissible(problem, plan, prediction):
        return
    yield _Choice(plan, prediction, value, as_cost(problem, value))


def _fits(problem: Problem, pipeline: Pipeline, stage: Stage, name: str) -> bool:
    need = stage_needs(problem, stage, pipeline.max_num_seqs, name)
    return need.total_bytes <= capacity_bytes(problem, name)


def _held(plan: Plan) -> dict[str, set[tuple[int, str]]]:
    """Layers and their quantization by node; a hot standby holds those of its stage."""
    held: dict[str, set[tuple[int, str]]] = {}
    for pipeline in plan.pipelines:
        for stage in pipeline.stages:
            held[stage.node] = {(layer, stage.quant) for layer in stage.layers}
    for standby in plan.standbys:
        if standby.state == "hot":
            stage = plan.pipelines[standby.pipeline].stages[standby.stage]
            layers = {(layer, stage.quant) for layer in stage.layers}
            held[standby.node] = held.get(standby.node, set()) | layers
    return held


def _runs(layers: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges ``[start, stop)`` of layers that follow each other."""
    start = 0
    for index in range(1, len(layers) + 1):
        if index == len(layers) or layers[index] != layers[index - 1] + 1:
            yield layers[start], layers[index - 1] + 1
            start = index
