"""Room: what a stage needs of its node's memory, and what the node has."""

from __future__ import annotations

from planner.core.cost import StageMemory, stage_memory
from planner.core.cost.drafting import draft_bytes
from planner.core.cost.room import (
    capacity_bytes,
    draft_missing_bytes,
    seat_tokens,
    step_tokens,
)
from planner.core.engine import Split
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem
from planner.core.units import show

__all__ = [
    "capacity_bytes",
    "draft_missing_bytes",
    "draft_without_room",
    "needs",
    "overfull",
    "stage_needs",
]


def needs(
    problem: Problem,
    start: int,
    stop: int,
    quant_id: str,
    seats: int,
    devices: int = 1,
    split: Split | None = None,
) -> StageMemory:
    """Memory of layers ``[start, stop)`` with KV cache for ``seats`` requests at once.

    Several devices that share layers by heads may hold the same cache twice, and each has a
    reserve of its own.
    """
    return stage_memory(
        problem.model,
        start,
        stop,
        problem.quant(quant_id),
        problem.engine,
        sequences=seats,
        tokens_per_sequence=seat_tokens(problem, seats),
        step_tokens=step_tokens(problem, seats),
        count=devices,
        split=split,
    )


def stage_needs(problem: Problem, stage: Stage, seats: int, node: str | None = None) -> StageMemory:
    """Memory of a stage on its node, or on another one."""
    devices = problem.cluster.node(node or stage.node).count
    held = stage.start, stage.stop, stage.quant
    return needs(problem, *held, seats, devices, stage.split)


def overfull(problem: Problem, plan: Plan) -> list[str]:
    """The nodes whose stage does not fit, and the coordinator's seat where the draft does not."""
    home = problem.cluster.coordinator
    return [home] * (draft_missing_bytes(problem, home) > 0) + [
        stage.node
        for pipeline in plan.pipelines
        for stage in pipeline.stages
        if stage_needs(problem, stage, pipeline.max_num_seqs).total_bytes
        > capacity_bytes(problem, stage.node)
    ]


def draft_without_room(problem: Problem) -> str:
    """What the draft model lacks where most of it would fit; empty where it fits at some seat."""
    seats = problem.cluster.seats
    missing_bytes, at = min(
        (draft_missing_bytes(problem, name), index) for index, name in enumerate(seats)
    )
    if problem.draft is None or not missing_bytes:
        return ""
    where = f"at {seats[at]}, where the coordinator sits"
    if len(seats) > 1:
        where = f"even at {seats[at]}, the coordinator's seat with the most room"
    need = show(draft_bytes(problem), "bytes")
    return (
        f"the draft {problem.draft.id} in {problem.quants[0].id} needs {need}: "
        f"{show(missing_bytes, 'bytes')} are missing {where}"
    )
