"""Lanes of a run: by which rules each pipeline is served, and how it is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.core.continuous import ContinuousSchedule
from planner.core.cost.room import kv_blocks
from planner.core.cost.traversal import one_coordinator
from planner.core.kvpool import KvPool
from planner.core.plan import Pipeline
from planner.core.problem import Problem
from planner.core.rng import generator
from planner.core.schedule import PipelineSchedule
from planner.sim.hops import HopLane
from planner.sim.lane import Lane, Schedule
from planner.sim.network import Network, Server
from planner.sim.rounds import RoundLane
from planner.sim.rows import RowLane, normals

if TYPE_CHECKING:
    from planner.sim.run import Run


def lanes_of(run: Run) -> Sequence[Lane]:
    """A lane for every pipeline of a run's plan."""
    shared = run.network.coordinator
    own = not one_coordinator(run.problem)
    visits = run.visits if run.keep_visits else None
    schedules = [_schedule(run.problem, pipeline) for pipeline in run.plan.pipelines]
    if run.exact_steps:
        return [
            HopLane(run, index, run.network, schedule, Server() if own else shared, visits)
            for index, schedule in enumerate(schedules)
        ]
    alone = own or len(schedules) == 1 or not run.problem.engine.coordinator_step_s
    return [_whole(run, index, schedule, alone) for index, schedule in enumerate(schedules)]


def _whole(run: Run, index: int, schedule: Schedule, alone: bool) -> Lane:
    """A lane whose jobs are computed whole; ``alone`` if the coordinator works for it only."""
    groups, network = run.plan.pipelines[index].micro_batches, run.network
    coordinator = Server() if alone else network.coordinator
    given = run, index, network, schedule, groups, run.gaps, coordinator, alone
    if alone and groups == 1:
        draws = generator(network.seed, "jitter of rows", index)
        return RowLane(*given, normals=normals(draws))
    return RoundLane(*given)


def hang_together(problem: Problem, network: Network) -> bool:
    """Whether steps hang together by more than their pipeline, or bring a drawn number of tokens.

    By the cores of a host, or by the uplink or downlink of a node. Such runs are simulated hop by
    hop.
    """
    cluster = problem.cluster
    shared = network.uplinks or network.downlinks
    return (
        bool(shared)
        or problem.serving.speculation is not None
        or any(
            node.host and cluster.device(node.id).workers_at_once is not None
            for node in cluster.workers
        )
    )


def _schedule(problem: Problem, pipeline: Pipeline) -> Schedule:
    """The rules of a pipeline: the engine's own; drafts are checked by the runtime's rules only."""
    engine, seats, groups = problem.engine, pipeline.max_num_seqs, pipeline.micro_batches
    if not problem.continuous:
        return PipelineSchedule(seats, groups)
    pool = KvPool(kv_blocks(problem, pipeline), engine.kv_block_tokens, engine.prefix_cache)
    return ContinuousSchedule(seats, groups, engine.max_num_batched_tokens, pool)
