"""Rehearsal: what steps of the stages of a run take right now, made in turn as they are in it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.core.cost.batch import Batch, Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.run.crew import START_S, Post, Worker

PHASES: tuple[Phase, ...] = ("prefill", "decode")
_TOKENS = 64
_PHASE_S = 0.75
_LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The median step of the stage that a node holds, by phase (s)."""

    post: Post
    taken_s: Mapping[Phase, float]

    def steps(self, problem: Problem, plan: Plan, slot_tokens: int) -> list[MeasuredStep]:
        """As the cost model knows them."""
        pipeline = plan.pipelines[self.post[0]]
        stage = pipeline.stages[self.post[1]]
        tokens, seats = held_tokens(slot_tokens), pipeline.max_num_seqs
        batches = {
            "prefill": Batch.prefill(tokens),
            "decode": Batch.decode(seats, seats * tokens),
        }
        device, quant = problem.cluster.device(stage.node), problem.quant(stage.quant)
        return [
            MeasuredStep(
                device, problem.model, stage.start, stage.stop, quant, batches[phase], seconds
            )
            for phase, seconds in self.taken_s.items()
        ]


def held_tokens(slot_tokens: int) -> int:
    """Tokens of the prompt that is computed, and in the cache of every sequence that decodes."""
    return max(1, min(_TOKENS, slot_tokens - 1))


def in_turn(workers: Sequence[Worker]) -> dict[str, Rehearsed]:
    """By node; the workers hold stages and make steps of them one after the other."""
    found: dict[str, dict[Phase, float]] = {worker.node: {} for worker in workers}
    for phase in PHASES:
        taken_s: dict[str, list[float]] = {worker.node: [] for worker in workers}
        until_s = time.monotonic() + _PHASE_S
        for rounds in itertools.count():
            if rounds >= _LEAST_ROUNDS and time.monotonic() > until_s:
                break
            for worker in workers:
                said = worker.ask({"pace": phase}, "pace", START_S)
                taken_s[worker.node].append(said["pace"])
        for node, mine in taken_s.items():
            found[node][phase] = statistics.median(mine)
    return {
        worker.node: Rehearsed(worker.post, found[worker.node])
        for worker in workers
        if worker.post is not None
    }
