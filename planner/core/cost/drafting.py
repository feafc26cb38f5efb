"""Drafting: what the draft model takes at the coordinator, in seconds and in bytes."""

from __future__ import annotations

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.memory import stage_memory
from planner.core.device import Device
from planner.core.model import ModelSpec
from planner.core.problem import Problem


def drafting_s(problem: Problem, batch: Batch) -> float:
    """Seconds of the draft that a step waits for: none but for decode steps under speculation."""
    speculation = problem.serving.speculation
    if speculation is None or batch.phase != "decode":
        return 0.0
    return speculation.waited_s(draft_token_s(problem, batch))


def stalled_s(problem: Problem, batch: Batch, way_s: float) -> float:
    """Seconds that a round waits for a free place, its checks being ``way_s`` under way each."""
    speculation = problem.serving.speculation
    if speculation is None or batch.phase != "decode" or speculation.checks_in_flight == 1:
        return 0.0
    return speculation.stalled_s(draft_token_s(problem, batch), way_s)


def draft_token_s(problem: Problem, batch: Batch) -> float:
    """Seconds of one more drafted token for every sequence of a decode step.

    As stated, or else a decode step of the draft model on the coordinator's device, in the first
    of the quantizations; 0 where guesses are looked up.
    """
    speculation, draft = problem.serving.speculation, problem.draft
    if speculation is None or speculation.draft_token_s or draft is None:
        return speculation.draft_token_s if speculation else 0.0
    return draft_step_s(problem, draft, Batch.decode(batch.sequences, batch.context_tokens))


def draft_step_s(problem: Problem, draft: ModelSpec, batch: Batch) -> float:
    """Seconds of a step of a draft model on the coordinator's device; KeyError without one.

    Where the coordinator may sit at several nodes, on the fastest.
    """

    def on(device: Device) -> float:
        chip, layers = Chip.of(problem.engine, device), draft.num_hidden_layers
        return stage_time(draft, 0, layers, problem.quants[0], chip, batch).total_s

    devices = {device.id: device for device in map(problem.cluster.device, problem.cluster.seats)}
    return min(map(on, devices.values()))


def draft_bytes(problem: Problem) -> float:
    """Memory of the draft model at the coordinator, with a cache for every user; 0 without one."""
    draft = problem.draft
    if draft is None or problem.serving.speculation is None:
        return 0.0
    seats = problem.serving.max_num_seqs or problem.workload.concurrency or 1
    held = stage_memory(
        draft,
        0,
        draft.num_hidden_layers,
        problem.quants[0],
        problem.engine,
        sequences=seats,
        tokens_per_sequence=problem.tokens_per_request,
        step_tokens=max(seats, problem.workload.longest_prompt_tokens),
    )
    return held.total_bytes - held.reserve_bytes
