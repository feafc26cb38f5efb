"""What runs in a plan, what stands by, and what moves to get there, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from planner.core.plan import Pipeline, Plan
from planner.core.problem import Problem
from planner.core.requirements import scale
from planner.core.units import show
from planner.plan.solution import Moves, Solution
from planner.report.tables import duration, figure, grid, label, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def pipeline_title(plan: Plan, index: int) -> str:
    """What stands over a pipeline."""
    if len(plan.pipelines) == 1:
        return "Stages"
    whole = sum(pipeline.weight for pipeline in plan.pipelines)
    share = plan.pipelines[index].weight / whole
    return f"Pipeline {index}, {share:.0%} of the requests"


_SPLITS = {
    "tensor": "its devices share every layer (tensor split)",
    "layer": "each of its devices holds layers of its own (layer split)",
}


def running_text(pipeline: Pipeline) -> Sequence[str]:
    """How many requests it serves at once, and nodes whose devices share in another way."""
    seats = pipeline.max_num_seqs
    said = f"  up to {seats} request{'s' * (seats != 1)} at once"
    if pipeline.micro_batches > 1:
        said += f" in {pipeline.micro_batches} groups"
    return (
        said,
        *(f"  {stage.node}: {_SPLITS[stage.split]}" for stage in pipeline.stages if stage.split),
    )


def moves_text(moves: Moves) -> Iterator[RenderableType]:
    """What is loaded where, and which nodes are free."""
    if moves.loads:
        yield (
            f"What moves: {show(moves.bytes, 'bytes')} in all, {show(moves.seconds, 's')} until "
            "the last node has them"
        )
        rows = grid("<", ">", ">", ">")
        for one in moves.loads:
            layers = f"{one.layers} layer" + ("s" if one.layers != 1 else "")
            rows.add_row(f"  {one.node}", layers, show(one.bytes, "bytes"), show(one.seconds, "s"))
        yield rows
    else:
        yield "What moves: nothing"
    if moves.released:
        yield f"  no longer used: {', '.join(moves.released)}"


def drafts_table(problem: Problem, solution: Solution) -> Table:
    """What every number of drafts would bring, the chosen one marked."""
    metric = scale(problem.requirements.objective)[0]
    rows = table("", ">drafts", ">tokens a round", ">time of a round", f">{label(metric)}", "")
    for one in solution.drafts:
        rows.add_row(
            "chosen" if one.chosen else "",
            str(one.draft_tokens),
            f"{one.tokens_per_round:.3g}",
            duration(one.round_s),
            figure(metric, one.value),
            "" if one.same_stages else "with other stages",
        )
    return rows
