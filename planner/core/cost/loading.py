"""Loading: which weights nodes get before they serve, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.memory import stage_memory
from planner.core.cost.transfer import transfer_time
from planner.core.model import ModelSpec
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem
from planner.core.quant import QuantScheme


def weights_bytes(problem: Problem, stage: Stage) -> float:
    """Bytes of the weights of a stage."""
    quant, engine = problem.quant(stage.quant), problem.engine
    return stage_memory(
        problem.model, stage.start, stage.stop, quant, engine, 0, 0, 0
    ).weights_bytes


WARM_TOKENS, WARM_ROWS = 16, 16
"""Prompt of the steps with which a stage warms up, and the most sequences of its decode steps."""


@dataclass(frozen=True, slots=True)
class MeasuredLoad:
    """How long a fresh process took from having weights on disk to serving a stage."""

    model: ModelSpec
    stage: Stage
    quant: QuantScheme
    seats: int
    weights_bytes: float
    seconds: float


def warm_batches(seats: int) -> Iterator[Batch]:
    """The steps that a stage makes before it serves."""
    yield Batch.prefill(WARM_TOKENS)
    for rows in range(1, min(seats, WARM_ROWS) + 1):
        yield Batch.decode(rows, rows * WARM_TOKENS)


def warm_up_s(model: ModelSpec, stage: Stage, quant: QuantScheme, chip: Chip, seats: int) -> float:
    """Seconds of these steps."""
    held = (stage.start, stage.stop)
    return sum(
        stage_time(model, *held, quant, chip, batch).total_s for batch in warm_batches(seats)
    )


def load_s(problem: Problem, stage: Stage, node: str, seats: int) -> float:
    """Seconds until a node that has the weights of a stage on disk can serve it."""
    engine, quant = problem.engine, problem.quant(stage.quant)
    taken_s = engine.load_s
    if engine.load_bytes_per_s is not None:
        taken_s += weights_bytes(problem, stage) / engine.load_bytes_per_s
    if engine.warms_up:
        cluster = problem.cluster
        chip = Chip.of(engine, cluster.device(node), cluster.node(node).count, stage.split)
        taken_s += warm_up_s(problem.model, stage, quant, chip, seats)
    return taken_s


def download_s(problem: Problem, stage: Stage, node: str) -> float:
    """Seconds until the weights of a stage have come to a node from the coordinator's host."""
    link = problem.cluster.link(problem.cluster.coordinator, node)
    size_bytes = weights_bytes(problem, stage)
    return transfer_time(link, size_bytes, problem.engine, "prefill").total_s


def first_load(
    problem: Problem, plan: Plan
) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Bytes by line and seconds by node of the first download, from the coordinator's host.

    The coordinator has the weights; nothing else is on the way. Cold standbys get nothing.
    """
    home = problem.cluster.coordinator
    held = [(stage.node, stage) for pipeline in plan.pipelines for stage in pipeline.stages]
    held += [
        (standby.node, plan.pipelines[standby.pipeline].stages[standby.stage])
        for standby in plan.standbys
        if standby.state != "cold"
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
