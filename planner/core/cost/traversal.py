"""One batch's way through a pipeline: coordinator, stages, hops and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.drafting import drafting_s, stalled_s
from planner.core.cost.stagetime import StageTime
from planner.core.cost.transfer import (
    Carrier,
    Transfer,
    hidden_payload_bytes,
    token_payload_bytes,
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
    overlap_s: float = 0.0
    """What a prompt saves because places are busy with different chunks of it at once."""
    stalled_s: float = 0.0
    """What a round of checks in flight waits for a free place."""

    @property
    def total_s(self) -> float:
        """Seconds from the coordinator's decision until its next one for this batch."""
        stages = sum(stage.total_s for stage in self.stages)
        hops = sum(hop.total_s for hop in self.transfers)
        return stages + hops + self.coordinator_s + self.stalled_s - self.overlap_s

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
    return problem.engine.coordinator_step_s + drafting_s(problem, batch)


def one_coordinator(problem: Problem) -> bool:
    """Whether the jobs of all pipelines wait for each other at the coordinator.

    vLLM's replicas have a scheduler each; a draft model is on one device for all of them.
    """
    return not problem.continuous


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


def jobs_of(problem: Problem, batch: Batch, seats: int) -> list[Batch]:
    """The jobs in which a batch goes down a pipeline: chunks of a prompt, or all of it at once.

    Under vLLM's rules a prompt is computed in pieces of its budget. Each of them is answered, while
    of the chunks that the runtime sends only the last one is.
    """
    engine = problem.engine
    if batch.phase == "decode":
        return [batch]
    if problem.continuous:
        return batch.chunks(max(engine.max_num_batched_tokens, seats))
    if not engine.passes_chunks:
        return [batch]
    *ahead, last = batch.chunks(engine.prefill_chunk)
    return [*(replace(chunk, silent=True) for chunk in ahead), last]


def overlaps(jobs: Sequence[Batch], groups: int) -> bool:
    """Whether several of a prompt's jobs are under way at once."""
    return len(jobs) > 1 and (jobs[0].silent or groups > 1)


def traverse(problem: Problem, pipeline: Pipeline, batch: Batch) -> Traversal:
    """The uncontended times of one step; raises LookupError where a hop has no link.

    A prompt whose chunks are jobs of their own is all of these together.
    """
    jobs = jobs_of(problem, batch, pipeline.max_num_seqs)
    hops = route(problem, pipeline.nodes)
    before = [0.0] * len(hops)
    ways = []
    for job in jobs:
        ways.append(_way(problem, pipeline, job, before))
        if job.silent:
            for index, size_bytes in enumerate(payloads_bytes(problem, pipeline, job)):
                before[index] += size_bytes + problem.engine.frame_bytes
    return ways[0] if len(ways) == 1 else _joined(problem, pipeline, ways, jobs[0].silent)


def _way(
    problem: Problem, pipeline: Pipeline, batch: Batch, before_bytes: Sequence[float]
) -> Traversal:
    """One job's way, behind so many bytes on each hop; a silent one ends at the last stage."""
    cluster, stages = problem.cluster, _stages(problem, pipeline, batch)
    hops = zip(
        route(problem, pipeline.nodes),
        payloads_bytes(problem, pipeline, batch),
        before_bytes,
        strict=True,
    )
    transfers = [
        Carrier.of(cluster.link(*ends), problem.engine, batch.carried).transfer(payload, before)
        for ends, payload, before in hops
    ]
    if batch.silent:
        del transfers[arrivals(problem, pipeline)[-1] + 1 :]
    own_s, shared_s = coordinator_s(problem, batch), _shared_s(problem, pipeline, stages)
    way_s = sum(stage.total_s for stage in stages) + sum(hop.total_s for hop in transfers)
    late_s = stalled_s(problem, batch, way_s)
    return Traversal(stages, tuple(transfers), own_s, shared_s, stalled_s=late_s)


def _stages(problem: Problem, pipeline: Pipeline, batch: Batch) -> tuple[StageTime, ...]:
    """What each stage takes; equal layers on equal devices are worked out once for a problem."""
    model, known, times = problem.model, problem.known_stages, list[StageTime]()
    for stage in pipeline.stages:
        node, start, stop = problem.cluster.node(stage.node), stage.start, stage.stop
        layers = tuple((id(layer), count) for layer, count in model.runs(start, stop))
        ends = start == 0, stop == model.num_hidden_layers
        alike = node.device, node.count, stage.split, stage.quant, layers, ends, batch
        if alike not in known:
            devices, quant = chip(problem, node.id, stage.split), problem.quant(stage.quant)
            known[alike] = stage_time(model, start, stop, quant, devices, batch)
        times.append(known[alike])
    return tuple(times)


def _joined(
    problem: Problem, pipeline: Pipeline, ways: Sequence[Traversal], silent: bool
) -> Traversal:
    """A prompt's way from those of its jobs, of which all but the last may be silent."""
    stages = tuple(
        sum(each, start=StageTime()) for each in zip(*(way.stages for way in ways), strict=True)
    )
    transfers = list(ways[-1].transfers)
    for way in ways[:-1]:
        for index, hop in enumerate(way.transfers):
            transfers[index] = transfers[index].behind(hop, answered=not silent)
    own_s = ways[0].coordinator_s if silent else sum(way.coordinator_s for way in ways)
    shared_s = _shared_s(problem, pipeline, stages)
    row = Traversal(stages, tuple(transfers), own_s, shared_s)
    ends_s = _last_s(problem, pipeline, ways, None if silent else pipeline.micro_batches)
    first, last = ways[0].transfers[0], transfers[-1]
    at_least_s = own_s + first.total_s + shared_s + last.total_s if shared_s else 0.0
    return replace(row, overlap_s=max(0.0, row.total_s - max(ends_s, at_least_s)))


def _last_s(
    problem: Problem, pipeline: Pipeline, ways: Sequence[Traversal], at_once: int | None
) -> float:
    """When the last of a prompt's jobs is back, each place serving one after the other.

    Without ``at_once`` all are sent together; else so many are under way at most.
    """
    stops = arrivals(problem, pipeline)
    free_s: dict[object, float] = {}
    ready_s, ends_s = (ways[0].coordinator_s if at_once is None else 0.0), list[float]()
    for way in ways:
        if at_once is not None:
            waits_s = ends_s[-at_once] if len(ends_s) >= at_once else 0.0
            ready_s = max(ready_s, waits_s) + way.coordinator_s
        at_s = ready_s
        for index, hop in enumerate(way.transfers):
            at_s = free_s["hop", index] = max(at_s, free_s.get(("hop", index), 0.0)) + hop.busy_s
            at_s += hop.propagate_s + hop.relay_s
            if index in stops:
                stage = stops.index(index)
                begins_s = max(at_s, free_s.get(("stage", stage), 0.0))
                at_s = free_s["stage", stage] = begins_s + way.stages[stage].total_s
        ends_s.append(at_s)
    return ends_s[-1]


def _shared_s(problem: Problem, pipeline: Pipeline, stages: tuple[StageTime, ...]) -> float:
    """Work of the stages on one host over the workers it can run at once, of the fullest host."""
    work_s: dict[str, float] = {}
    for stage, time in zip(pipeline.stages, stages, strict=True):
        at_once = problem.cluster.device(stage.node).workers_at_once
        host = problem.cluster.node(stage.node).host
        if host and at_once is not None:
            work_s[host] = work_s.get(host, 0.0) + time.total_s / at_once
    return max(work_s.values(), default=0.0)
