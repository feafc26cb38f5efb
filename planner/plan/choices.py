"""Choices: the quantizations, numbers of replicas and seats that are worth a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import allowed_nodes
from planner.plan.infeasible import no_quality
from planner.plan.room import capacity_bytes, needs


def good_enough(problem: Problem) -> list[QuantScheme]:
    """The schemes that keep the quality asked for; unknown keeps none."""
    floor = problem.requirements.must_have.quality
    if floor is None:
        return list(problem.quants)
    kept = [
        quant
        for quant in problem.quants
        if (quality := quant.quality_for(problem.model.family)) is not None and quality >= floor
    ]
    if not kept:
        raise no_quality(problem)
    return kept


def mixes(problem: Problem) -> list[tuple[QuantScheme, ...]]:
    """Sets of schemes that the stages of a plan choose from: one for all, or any for each."""
    each = good_enough(problem)
    alone = [(quant,) for quant in each]
    return [*alone, tuple(each)] if problem.serving.mixed_quants and len(each) > 1 else [*alone]


def most_replicas(problem: Problem, quants: Sequence[QuantScheme]) -> int:
    """Replicas that memory, nodes and users could allow."""
    nodes, layers = allowed_nodes(problem), problem.model.num_hidden_layers
    room = sum(capacity_bytes(problem, node.id) for node in nodes)
    one = min(needs(problem, 0, layers, quant.id, 1).total_bytes for quant in quants)
    users = problem.workload.concurrency or len(nodes)
    return max(1, min(len(nodes), users, int(room / one)))


def seats_to_try(problem: Problem, replicas: int) -> list[int]:
    """Seats per pipeline to try: what the load needs and halves of it, or a ladder.

    In a closed loop users are served at once where memory allows: fewer seats would answer each
    faster, and let the others wait.
    """
    most = problem.serving.max_num_seqs or problem.engine.max_num_seqs
    users = problem.workload.concurrency
    if users is not None:
        seats = min(most, math.ceil(users / replicas))
        return [max(1, seats >> power) for power in range(seats.bit_length())]
    ladder = [4**power for power in range(5) if 4**power < min(most, 256)]
    return [*ladder, min(most, 256)]


def structure_name(replicas: int, quants: Sequence[QuantScheme], seats: int) -> str:
    """What a structure is called in tables of candidates."""
    quant_id = " or ".join(quant.id for quant in quants)
    count = f"{replicas} replicas" if replicas > 1 else "1 pipeline"
    return f"{count}, {quant_id}, {seats} seat{'s' * (seats != 1)}"
