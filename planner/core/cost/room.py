"""Room: memory of a node that an engine may use, and the blocks of KV cache that fit into it."""

from __future__ import annotations

import math

from planner.core.cost.drafting import draft_bytes
from planner.core.cost.memory import kv_bytes_per_sequence, kv_copies, stage_memory
from planner.core.plan import Pipeline, Stage
from planner.core.problem import Problem

_DEVIATIONS = 3.0
"""How far above its mean the cache of many requests may grow: more is asked for 1.3 times in 1,000
(normal, as a sum of many), and then requests are preempted."""


def seat_tokens(problem: Problem, seats: int) -> int:
    """Tokens of KV cache to count for each of so many requests at once.

    Slots are as long as the longest request. Blocks that are handed out as sequences grow (vLLM)
    hold what all of them have at a time, and at least one of the longest.
    """
    longest = problem.tokens_per_request
    if not problem.continuous:
        return longest
    mean, variance = problem.workload.cached_tokens
    held = max(longest, seats * mean + _DEVIATIONS * math.sqrt(seats * variance))
    return min(longest, math.ceil(held / seats + problem.engine.kv_block_tokens / 2))


def step_tokens(problem: Problem, seats: int) -> int:
    """Most tokens of one step of a stage: a whole prompt, or a piece of some (vLLM)."""
    longest = problem.workload.longest_prompt_tokens
    if problem.continuous:
        longest = problem.engine.max_num_batched_tokens
    return max(seats, longest)


def capacity_bytes(problem: Problem, node_id: str) -> float:
    """Memory of a node that the engine may use for stages; the coordinator's holds the draft."""
    held_bytes = draft_bytes(problem) if problem.cluster.seats == (node_id,) else 0.0
    return _usable_bytes(problem, node_id) - held_bytes


def draft_missing_bytes(problem: Problem, seat: str) -> float:
    """What a seat of the coordinator lacks to hold the draft beside the engine's reserve.

    0 where it fits, where there is none, and where a machine without a device holds it.
    """
    node = problem.cluster.node(seat)
    needed_bytes = draft_bytes(problem)
    if not needed_bytes or node.device is None:
        return 0.0
    reserve_bytes = problem.engine.memory_reserve_bytes * node.count
    return max(0.0, needed_bytes + reserve_bytes - _usable_bytes(problem, seat))


def _usable_bytes(problem: Problem, node_id: str) -> float:
    node = problem.cluster.node(node_id)
    device_bytes = problem.cluster.device(node_id).memory_bytes
    each_bytes = device_bytes if node.memory_bytes is None else min(node.memory_bytes, device_bytes)
    return problem.engine.memory_fraction * each_bytes * node.count


def kv_blocks(problem: Problem, pipeline: Pipeline) -> int:
    """Blocks of KV cache a pipeline has: as many as its fullest stage can hold.

    What is not weights, activations of the largest step or the engine's reserve is cache.
    """
    if problem.serving.kv_blocks is not None:
        return problem.serving.kv_blocks
    return min(_stage_blocks(problem, stage, pipeline.max_num_seqs) for stage in pipeline.stages)


def _stage_blocks(problem: Problem, stage: Stage, seats: int) -> int:
    model, engine, quant = problem.model, problem.engine, problem.quant(stage.quant)
    devices = problem.cluster.node(stage.node).count
    sharing = devices if (stage.split or engine.split) == "tensor" else 1
    taken = stage_memory(
        model,
        stage.start,
        stage.stop,
        quant,
        engine,
        seats,
        0,
        step_tokens(problem, seats),
        devices,
        stage.split,
    )
    left_bytes = capacity_bytes(problem, stage.node) - taken.total_bytes
    block_bytes = sum(
        times
        * kv_copies(layer, sharing)
        * kv_bytes_per_sequence(layer, quant, engine, engine.kv_block_tokens)
        for layer, times in model.runs(stage.start, stage.stop)
    )
    return max(0, math.floor(left_bytes / block_bytes))
