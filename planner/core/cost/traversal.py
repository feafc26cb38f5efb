"""One batch's way through a pipeline: coordinator, stages, hops and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.stagetime import StageTime
from planner.core.cost.transfer import (
    Transfer,
    hidden_payload_bytes,
    token_payload_bytes,
    transfer_time,
)
from planner.core.engine import Split
from planner.core.plan import Pipeline
from planner.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Traversal:
    """Times of one step of a batch through a pipeline, nothing else being in its way."""

    stages: tuple[StageTime, ...]
    transfers: tuple[Transfer, ...]
    """One for every hop of the route: into the first stage, between stages, and back."""
    coordinator_s: float
    """Scheduling, sampling and drafting at the coordinator."""
    shared_s: float = 0.0
    """Longest time that a host shared by several stages is busy with the step."""

    @property
    def total_s(self) -> float:
        """Seconds from the coordinator's decision until its next one for this batch."""
        stages = sum(stage.total_s for stage in self.stages)
        return stages + sum(hop.total_s for hop in self.transfers) + self.coordinator_s

    @property
    def bottleneck_s(self) -> float:
        """Longest time that one stage or one line is busy: batches cannot follow faster."""
        busiest_stage = max(stage.total_s for stage in self.stages)
        busiest_line = max(hop.busy_s for hop in self.transfers)
        return max(busiest_stage, busiest_line, self.shared_s)


def chip(problem: Problem, node_id: str, split: Split | None = None) -> Chip:
    """The devices of a node under the problem's engine, which share a stage as ``split`` says."""
    count = problem.cluster.node(node_id).count
    return Chip.of(problem.engine, problem.cluster.device(node_id), count, split)


def payloads_bytes(problem: Problem, pipeline: Pipeline, batch: Batch) -> tuple[float, ...]:
    """Bytes of each hop of a step: token ids in, hidden states between, token ids out."""
    star = problem.serving.return_path == "star"
    between = [
        hidden_payload_bytes(problem.model, problem.quant(stage.quant), batch.new_tokens)
        for stage in pipeline.stages[:-1]
        for _ in range(2 if star else 1)
    ]
    back = len(route(problem, pipeline.nodes)) - len(between) - 1
    answer = token_payload_bytes(batch.sampled_tokens)
    return (token_payload_bytes(batch.new_tokens), *between, *(back * (answer,)))


def coordinator_s(problem: Problem, batch: Batch) -> float:
    """What the coordinator itself does for a step; drafts are made for decode steps only."""
    speculation = problem.serving.speculation
    drafting_s = speculation.draft_s if speculation and batch.phase == "decode" else 0.0
    return problem.engine.coordinator_step_s + drafting_s


def route(problem: Problem, nodes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The hops of a step by their ends: to every stage, then home as the engine answers."""
    home = problem.cluster.coordinator
    if problem.serving.return_path == "star":
        return tuple(ends for node in nodes for ends in ((home, node), (node, home)))
    back = nodes[-1:] if problem.serving.return_path == "direct" else nodes[::-1]
    return (*pairwise((home, *nodes)), *pairwise((*back, home)))


def arrivals(problem: Problem, pipeline: Pipeline) -> range:
    """Which hops of the route end at a stage, in the order of the stages."""
    apart = 2 if problem.serving.return_path == "star" else 1
    return range(0, apart * len(pipeline.stages), apart)


def traverse(problem: Problem, pipeline: Pipeline, batch: Batch) -> Traversal:
    """The uncontended times of one step; raises LookupError where a hop has no link."""
    cluster = problem.cluster
    stages = tuple(
        stage_time(
            problem.model,
            stage.start,
            stage.stop,
            problem.quant(stage.quant),
            chip(problem, stage.node, stage.split),
            batch,
        )
        for stage in pipeline.stages
    )
    payloads = payloads_bytes(problem, pipeline, batch)
    transfers = tuple(
        transfer_time(cluster.link(*ends), payload, problem.engine, batch.phase)
        for ends, payload in zip(route(problem, pipeline.nodes), payloads, strict=True)
    )
    own_s = coordinator_s(problem, batch)
    return Traversal(stages, transfers, own_s, _shared_s(problem, pipeline, stages))


def _shared_s(problem: Problem, pipeline: Pipeline, stages: tuple[StageTime, ...]) -> float:
    """Work of the stages on one host over the workers it can run at once, of the fullest host."""
    work_s: dict[str, float] = {}
    for stage, time in zip(pipeline.stages, stages, strict=True):
        at_once = problem.cluster.device(stage.node).workers_at_once
        host = problem.cluster.node(stage.node).host
        if host and at_once is not None:
            work_s[host] = work_s.get(host, 0.0) + time.total_s / at_once
    return max(work_s.values(), default=0.0)
