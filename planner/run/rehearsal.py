"""Rehearsal: what steps of the stages of a run take right now, made as a run makes them.

Requests go through the pipelines in rounds: one prompt alone, then a few steps of all sequences.
So links hold messages back, the coordinator has its turn, stages sleep while they wait and find
their caches emptied, as they will. Steps that workers made on a mere order were quicker than that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from planner.core.cost.measured import MeasuredStep
from planner.core.forecast import Rehearsal
from planner.core.metrics import RequestRecord
from planner.core.problem import Problem
from planner.run.driver import Session
from planner.run.measurement import Measurement, StageRun, crowded, report, stage_runs
from planner.run.prompts import Prompt
from planner.run.steps import Step

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from planner.run.fleet import Fleet

_TOKENS, _SHORT_TOKENS = 64, 8
"""Of a prompt, and of those that are only to decode where more would take too long."""
_LEAST_S, _MOST_S, _LEAST_ROUNDS = 2.5, 8.0, 3
"""How long a rehearsal goes on, and the rounds it has in any case."""
_SHARE = 1 / 3
"""Of the time that the run is likely to take: what a longer one has more of to be right about."""
_PROMPTS_S = 1.2
"""What whole prompts of all who decode together may take in a round."""
_DECODING_S, _LEAST_STEPS, _MOST_STEPS = 0.4, 2, 8
"""What decoding is to take in a round, and the steps it has."""
_MOST_SEATS = 16
"""Sequences of a pipeline that decode together at most."""


def held_tokens(slot_tokens: int) -> int:
    """Tokens of the prompt that is computed."""
    return max(1, min(_TOKENS, slot_tokens - 1))


def rehearse(
    problem: Problem, fleet: Fleet, tokenizer: Tokenizer, prompts: Sequence[Prompt]
) -> dict[str, Rehearsal]:
    """Steps of every node that holds a stage, and of those that stand by for it on its host.

    Who is hot and ready beside a stage computes it as fast as the stage's own node. The longer
    ``prompts`` are going to take, the longer it goes on.
    """
    bounds_s, span_s = [time.monotonic()], _LEAST_S
    while len(bounds_s) <= _LEAST_ROUNDS or bounds_s[-1] < bounds_s[0] + span_s:
        together = _round(problem, fleet, tokenizer)
        bounds_s.append(time.monotonic())
        span_s = min(_MOST_S, max(_LEAST_S, _SHARE * lasting_s(prompts, together)))
    runs = stage_runs(fleet, report(fleet), bounds_s[0])
    found = made(problem, runs, [at_s - bounds_s[0] for at_s in bounds_s])
    hosts = {node.id: fleet.place(node.id).host for node in problem.cluster.nodes}
    found = {node: replace(one, host=hosts[node]) for node, one in found.items()}
    for standby in fleet.plan.standbys:
        holder = fleet.stage((standby.pipeline, standby.stage)).node
        if hosts[standby.node] == hosts[holder] and holder in found:
            found.setdefault(standby.node, _as_by(problem, found[holder], standby.node))
    return found


def made(
    problem: Problem, runs: Sequence[StageRun], bounds_s: Sequence[float]
) -> dict[str, Rehearsal]:
    """Steps of stages by node, in rounds that begin and end at these times."""
    found: dict[str, list[list[MeasuredStep]]] = {}
    for run, steps in _telling(problem, runs):
        device, quant = problem.cluster.device(run.stage.node), problem.quant(run.stage.quant)
        layers = (run.stage.start, run.stage.stop)
        rounds = found.setdefault(run.stage.node, [[] for _ in bounds_s[1:]])
        for mine, (begin_s, end_s) in zip(rounds, pairwise(bounds_s), strict=True):
            mine += [
                MeasuredStep(device, problem.model, *layers, quant, step.batch, step.compute_s)
                for step in steps
                if begin_s <= step.received_s < end_s
            ]
    span_s = bounds_s[-1] - bounds_s[0]
    return {node: Rehearsal(tuple(map(tuple, rounds)), span_s) for node, rounds in found.items()}


def _telling(problem: Problem, runs: Sequence[StageRun]) -> list[tuple[StageRun, list[Step]]]:
    """The steps that tell how fast stages are.

    Not those that shared their host with as many others as it has cores for: they waited for a
    core, which the simulator has them do itself. Of prompts the long ones: to short ones happens
    what happens to decode steps.
    """
    lengths = [s.new_tokens for run in runs for s in run.steps if s.phase == "prefill"]
    short = max(lengths, default=0) / 2
    return [
        (
            run,
            [
                step
                for step in run.steps
                if (step.phase == "decode" or step.new_tokens > short)
                and not crowded(problem, run, step, runs)
            ],
        )
        for run in runs
    ]


def in_run(problem: Problem, measurement: Measurement) -> dict[str, Rehearsal]:
    """Steps of the run itself; of nodes that had none in it, what they had rehearsed."""
    last_s = max((s.computed_s for run in measurement.stages for s in run.steps), default=0.0)
    before = {
        node: replace(one, host=f"{one.host} before") for node, one in measurement.paces.items()
    }
    found = made(problem, measurement.stages, (0.0, last_s))
    return before | {node: one for node, one in found.items() if one.steps}


def lasting_s(prompts: Sequence[Prompt], together: Sequence[RequestRecord]) -> float:
    """About how long requests take whose sequences decode as those of a round did together."""
    taken_s = statistics.fmean(record.ttft_s for record in together)
    tokens_s = statistics.fmean(record.tpot_s or 0.0 for record in together)
    answers = sum(prompt.max_new_tokens for prompt in prompts)
    served_s = (len(prompts) * taken_s + answers * tokens_s) / len(together)
    return max(served_s, max((prompt.arrival_s for prompt in prompts), default=0.0))


def _round(problem: Problem, fleet: Fleet, tokenizer: Tokenizer) -> list[RequestRecord]:
    """One prompt alone, then all seats; what happened to the requests of these."""
    plan, began_s = fleet.plan, time.monotonic()
    tokens = held_tokens(fleet.slot_tokens)
    alone = [Prompt(index, 0.0, [0] * tokens, 1) for index, _ in enumerate(plan.pipelines)]
    Session(fleet, tokenizer).run(alone, concurrency=1)
    way_s = (time.monotonic() - began_s) / len(alone)
    steps = max(_LEAST_STEPS, min(_MOST_STEPS, int(_DECODING_S / way_s)))
    seats = sum(pipeline.max_num_seqs for pipeline in plan.pipelines)
    users = min(seats, problem.workload.concurrency or seats, _MOST_SEATS * len(plan.pipelines))
    if users * way_s > _PROMPTS_S * max(len(pipeline.stages) for pipeline in plan.pipelines):
        tokens = min(_SHORT_TOKENS, tokens)
    tokens = max(1, min(tokens, fleet.slot_tokens - 1 - steps))
    answer = max(1, min(1 + steps, fleet.slot_tokens - tokens))
    together = [Prompt(index, 0.0, [0] * tokens, answer) for index in range(users)]
    session = Session(fleet, tokenizer)
    session.run(together, concurrency=users)
    return list(session.records.values())


def _as_by(problem: Problem, rehearsal: Rehearsal, node: str) -> Rehearsal:
    """The same steps as another node would have made them."""
    device = problem.cluster.device(node)
    rounds = (tuple(replace(step, device=device) for step in one) for one in rehearsal.rounds)
    return replace(rehearsal, rounds=tuple(rounds))
