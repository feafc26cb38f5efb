"""What runs in a plan, what stands by, and what moves to get there, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from planner.core.plan import Pipeline, Plan
from planner.core.problem import Problem
from planner.core.requirements import scale, user_figure
from planner.core.units import show
from planner.core.words import figure, label
from planner.plan.solution import Moves, Solution
from planner.report.churn import long_run_text
from planner.report.tables import Lines, duration, grid, table

if TYPE_CHECKING:
    from rich.table import Table


_APART = 0.005
"""Share by which means over users and over requests differ before both are told."""


def pipeline_title(problem: Problem, plan: Plan, index: int) -> str:
    """What stands over a pipeline."""
    if len(plan.pipelines) == 1:
        return "Stages"
    whole = sum(pipeline.weight for pipeline in plan.pipelines)
    share = plan.pipelines[index].weight / whole
    return f"Pipeline {index}, {share:.0%} of the {_load(problem)}"


def routing_text(problem: Problem, solution: Solution) -> Iterator[str]:
    """How the router splits the load where pipelines differ, and what a mean is one of."""
    if solution.equal_value is not None:
        metric = scale(problem.requirements.objective)[0]
        weights = " : ".join(f"{one.weight:g}" for one in solution.plan.pipelines)
        equal = figure(metric, solution.equal_value)
        yield f"The router splits {_load(problem)} {weights}; equally split it would be {equal}."
    for term in problem.requirements.terms:
        yield from _counted_text(problem, solution, scale(term)[0])


def _counted_text(problem: Problem, solution: Solution, metric: str) -> Iterator[str]:
    """A latency as the objective counts it and over all requests, where these differ."""
    metrics = solution.prediction.metrics
    counted, value = user_figure(metrics, metric), getattr(metrics, metric)
    if counted is None or value is None or counted == value or abs(value / counted - 1) <= _APART:
        return
    if not metric.startswith("mean_"):
        of, why = "in the worst pipeline", ""
    elif problem.workload.concurrency is not None:
        of, why = "averaged over users", ": users of faster pipelines send more"
    else:
        of, why = "with pipelines by their weights", ": the router sends faster ones more"
    said = label(metric)
    yield (
        f"{said[0].upper()}{said[1:]} is {figure(metric, counted)} {of}, as the objective counts, "
        f"and {figure(metric, value)} over all requests{why}."
    )


def told_beside(problem: Problem, solution: Solution) -> Iterator[str]:
    """What has to be known of the figure that the plan was chosen for."""
    yield from points_text(problem, solution)
    yield from routing_text(problem, solution)
    availability = solution.prediction.metrics.availability
    if text := long_run_text(problem, solution.plan, availability):
        yield text
    yield from _trial_text(problem, solution)


def _trial_text(problem: Problem, solution: Solution) -> Iterator[str]:
    """What a simulation said of the chosen plan, where it was the judge."""
    trials = [one.trial for one in solution.candidates if one.chosen and one.trial]
    metric = scale(problem.requirements.objective)[0]
    for value in map(problem.requirements.value, trials):
        if value is not None:
            yield f"Simulated under the workload, which has the last word: {figure(metric, value)}."


def points_text(problem: Problem, solution: Solution) -> Iterator[str]:
    """The terms of a weighted sum, each with its weight and what it adds."""
    wanted, metrics = problem.requirements, solution.prediction.metrics
    if wanted.objective != "weighted":
        return
    told = []
    for name, points in wanted.points(metrics).items():
        metric = scale(name)[0]
        value = figure(metric, user_figure(metrics, metric))
        of = "" if metric.startswith("usd_") else f" of {label(metric)}"
        told.append(f"{figure('weighted', points)} for {value}{of}")
    yield f"Of that, {', '.join(told)}."


def _load(problem: Problem) -> str:
    return "requests" if problem.workload.concurrency is None else "users"


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


def moves_text(moves: Moves) -> Lines:
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
