"""Room: what a stage needs of its node's memory, and what the node has."""

from __future__ import annotations

from planner.core.cost import StageMemory, stage_memory
from planner.core.cost.room import capacity_bytes
from planner.core.plan import Plan
from planner.core.problem import Problem

__all__ = ["capacity_bytes", "needs", "overfull"]


def needs(problem: Problem, start: int, stop: int, quant_id: str, seats: int) -> StageMemory:
    """Memory of layers ``[start, stop)`` with KV cache for ``seats`` of the longest requests."""
    return stage_memory(
        problem.model,
        start,
        stop,
        problem.quant(quant_id),
        problem.engine,
        sequences=seats,
        tokens_per_sequence=problem.tokens_per_request,
        step_tokens=max(seats, problem.workload.longest_prompt_tokens),
    )


def overfull(problem: Problem, plan: Plan) -> list[str]:
    """The nodes whose stage does not fit."""
    return [
        stage.node
        for pipeline in plan.pipelines
        for stage in pipeline.stages
        if needs(problem, stage.start, stage.stop, stage.quant, pipeline.max_num_seqs).total_bytes
        > capacity_bytes(problem, stage.node)
    ]
