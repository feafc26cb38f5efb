"""Trim: the most promising nodes of a cluster that is too large for the exact search."""

from __future__ import annotations

import math

from planner.core.cost import Batch, chip, hidden_payload_bytes, stage_time, transfer_time
from planner.core.problem import Problem
from planner.plan.classes import NodeClass


def trimmed(problem: Problem, classes: tuple[NodeClass, ...], most: int) -> tuple[NodeClass, ...]:
    """The classes with as many nodes as ``most`` multisets allow, the best ones kept.

    Nodes are taken in turn by what their share of a token costs: their time for all layers and
    the way to the coordinator and back; ties go to the scenario's order.
    """
    if _multisets([len(entry.nodes) for entry in classes]) <= most:
        return classes
    ranked = sorted(
        range(len(classes)), key=lambda index: (_slowness_s(problem, classes[index]), index)
    )
    counts = [0] * len(classes)
    open_classes = list(ranked)
    while open_classes:
        for index in list(open_classes):
            counts[index] += 1
            if counts[index] > len(classes[index].nodes) or _multisets(counts) > most:
                counts[index] -= 1
                open_classes.remove(index)
    return tuple(
        NodeClass(entry.nodes[:count])
        for entry, count in zip(classes, counts, strict=True)
        if count
    )


def _multisets(counts: list[int]) -> int:
    return math.prod(count + 1 for count in counts)


def _slowness_s(problem: Problem, entry: NodeClass) -> float:
    quant, layers = problem.quants[0], problem.model.num_hidden_layers
    step = Batch.decode(1, problem.workload.prompt.mean_tokens)
    own_s = stage_time(problem.model, 0, layers, quant, chip(problem, entry.example), step).total_s
    home, payload = problem.cluster.coordinator, hidden_payload_bytes(problem.model, quant, 1)
    ways = [(home, entry.example), (entry.example, home)]
    if not all(problem.cluster.connected(*way) for way in ways):
        return math.inf
    moves = [transfer_time(problem.cluster.link(*way), payload, problem.engine) for way in ways]
    return own_s / layers + sum(move.total_s for move in moves)
