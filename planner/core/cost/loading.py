"""Loading: which weights a plan's nodes get before they serve, and how long that takes."""

from __future__ import annotations

from planner.core.cost.memory import stage_memory
from planner.core.cost.transfer import transfer_time
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem


def weights_bytes(problem: Problem, stage: Stage) -> float:
    """Bytes of the weights of a stage."""
    quant, engine = problem.quant(stage.quant), problem.engine
    return stage_memory(
        problem.model, stage.start, stage.stop, quant, engine, 0, 0, 0
    ).weights_bytes


def first_load(
    problem: Problem, plan: Plan
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Bytes by line and seconds by node of the first download, from the coordinator's host.

    The coordinator has the weights; nothing else is on the way. Cold standbys load nothing.
    """
    home = problem.cluster.coordinator
    held = [(stage.node, stage) for pipeline in plan.pipelines for stage in pipeline.stages]
    held += [
        (standby.node, plan.pipelines[standby.pipeline].stages[standby.stage])
        for standby in plan.standbys
        if standby.state == "hot"
    ]
    sizes: dict[tuple[str, str], float] = {}
    for name, stage in held:
        if name != home and problem.cluster.connected(home, name):
            sizes[home, name] = sizes.get((home, name), 0.0) + weights_bytes(problem, stage)
    seconds = {
        ends[1]: transfer_time(
            problem.cluster.link(*ends), size_bytes, problem.engine, "prefill"
        ).total_s
        for ends, size_bytes in sizes.items()
    }
    return sizes, seconds
