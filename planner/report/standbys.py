"""Standbys of a plan: for whom, how ready, and how long taking over takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.core.choice import decided
from planner.core.cost.recovery import Recovery, recovery
from planner.core.plan import Plan, Standby
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.units import show
from planner.plan.solution import Solution
from planner.plan.standby import pays


def recoveries(
    problem: Problem, plan: Plan, prediction: Prediction
) -> Iterator[tuple[Standby, Recovery]]:
    """What taking over takes each standby under the expected load, from noticing the loss on."""
    problem = decided(problem, plan)
    for one in plan.standbys:
        batch = prediction.pipelines[one.pipeline].batch
        yield one, recovery(problem, plan, one, batch)


def if_no_node_were_lost(problem: Problem, solution: Solution) -> str:
    """What a bound rests on that plans whose nodes go cannot reach; empty where that is nothing.

    Searches know what losses cost at least but for weighted sums, and arrivals that may wait, on
    large clusters.
    """
    lost = any(one.lost_s for one in solution.prediction.pipelines)
    summed = problem.requirements.objective == "weighted"
    waiting = problem.workload.concurrency is None
    unknown = lost and pays(problem) and solution.solver != "exact" and (summed or waiting)
    return ", were no node ever lost" if unknown else ""


def standbys_text(problem: Problem, solution: Solution) -> Iterator[str]:
    """A line for each node, and what it is worth; nothing where none stands by or could."""
    plan, told = solution.plan, dict[str, list[str]]()
    if plan.standbys or solution.standbys:
        yield ""
        yield "Standbys"
    for one, takes in recoveries(problem, plan, solution.prediction):
        backed = plan.pipelines[one.pipeline].nodes[one.stage]
        said = f"{one.state} for {backed}, in {show(takes.total_s, 's')}"
        told.setdefault(one.node, []).append(said)
    for name, lines in told.items():
        yield f"  {name}: {'; '.join(lines)}"
    yield from (f"  {one.text}" for one in solution.standbys)


def standbys_document(problem: Problem, plan: Plan, prediction: Prediction) -> list[dict[str, Any]]:
    """What taking over takes, by cause (s)."""
    return [
        {
            "node": one.node,
            "pipeline": one.pipeline,
            "stage": one.stage,
            "state": one.state,
            "download_s": takes.download_s,
            "load_s": takes.load_s,
            "takeover_s": takes.takeover_s,
            "replay_s": takes.replay_s,
            "total_s": takes.total_s,
        }
        for one, takes in recoveries(problem, plan, prediction)
    ]
