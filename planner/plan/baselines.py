"""Baselines: what other planners would do, as plans of our own problem.

``even`` and ``memory`` cut the layers over all nodes in the scenario's order, in equal parts (vLLM,
SWARM), in proportion to memory (exo, llama.cpp) or, ``tflops``, to peak arithmetic (cake).
``greedy`` lets node after node take the window of blocks with the least capacity and follows the
windows. None of them knows anything of links. ``petals`` and ``cg-bp`` are in ``swarm.py``.
``fixed-order`` cuts optimally for one request but keeps the scenario's order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from planner.core.cost import Batch, chip, stage_time
from planner.core.cost.traversal import route
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import NodeClass, allowed_nodes
from planner.plan.costs import criteria
from planner.plan.predict import load_of
from planner.plan.room import capacity_bytes, needs, overfull
from planner.plan.swarm import Spans, Swarm, cg_bp, petals, servers
from planner.plan.ways import Way

Baseline = Literal["even", "memory", "tflops", "greedy", "petals", "cg-bp", "fixed-order"]


def baseline(problem: Problem, name: Baseline, quant: QuantScheme, seats: int) -> Plan | None:
    """The plan that a simpler planner makes; None where it makes none that fits and is linked."""
    made = _MAKERS[name](problem, quant, seats)
    pipelines = tuple(
        Pipeline(
            stages=tuple(
                Stage(node=node, start=start, stop=stop, quant=quant.id)
                for node, start, stop in spans
            ),
            max_num_seqs=seats,
            micro_batches=min(problem.serving.micro_batches, seats),
        )
        for spans in made
        if spans and _linked(problem, [node for node, *_ in spans])
    )
    if not pipelines:
        return None
    plan = Plan(pipelines=pipelines)
    return None if overfull(problem, plan) else plan


def _even(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
    names = _names(problem)
    return [_proportional(problem, quant, seats, names, [1.0] * len(names))]


def _memory(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
    names = _names(problem)
    room = [capacity_bytes(problem, name) for name in names]
    return [_proportional(problem, quant, seats, names, room)]


def _tflops(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
    names, cluster = _names(problem), problem.cluster
    peaks = [
        cluster.device(name).peak_flop_per_s(quant.compute_dtype) * cluster.node(name).count
        for name in names
    ]
    return [_proportional(problem, quant, seats, names, peaks)]


def _proportional(
    problem: Problem, quant: QuantScheme, seats: int, names: list[str], weights: list[float]
) -> Spans:
    """Layers in proportion to ``weights``, largest remainders first, none beyond what fits."""
    layers = problem.model.num_hidden_layers
    most = [_most_layers(problem, quant, seats, name) for name in names]
    counts = [0] * len(names)
    for _ in range(layers):
        owed = [
            (weight * layers / sum(weights) - count, -index)
            for index, (weight, count) in enumerate(zip(weights, counts, strict=True))
            if count < most[index]
        ]
        if not owed:
            return []
        counts[-max(owed)[1]] += 1
    ends = list(itertools.accumulate(counts))
    return [
        (name, end - count, end)
        for name, count, end in zip(names, counts, ends, strict=True)
        if count
    ]


def _greedy(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
    layers, windows = problem.model.num_hidden_layers, list[tuple[str, int, int]]()
    capacity = np.zeros(layers)
    step = Batch.decode(1, problem.workload.prompts.mean_tokens)
    for name in _names(problem):
        size = _most_layers(problem, quant, seats, name)
        if not size:
            continue
        start = min(
            range(layers - size + 1),
            key=lambda at: (tuple(np.sort(capacity[at : at + size])), at),
        )
        windows.append((name, start, start + size))
        took = stage_time(problem.model, start, start + size, quant, chip(problem, name), step)
        capacity[start : start + size] += 1 / took.total_s
    return list(_chains(windows, layers))


def _chains(windows: list[tuple[str, int, int]], layers: int) -> Iterator[Spans]:
    """Disjoint pipelines along the windows, each taking the window that leads farthest."""
    left = list(windows)
    while True:
        spans: Spans = []
        while not spans or spans[-1][2] < layers:
            at = spans[-1][2] if spans else 0
            fitting = [window for window in left if window[1] <= at < window[2]]
            if not fitting:
                return
            taken = max(fitting, key=lambda window: window[2])
            left.remove(taken)
            spans.append((taken[0], at, taken[2]))
        yield spans


def _swarm(choose: Swarm) -> Callable[[Problem, QuantScheme, int], list[Spans]]:
    """Pipelines of servers that choose their windows, in the scenario's order where they join."""

    def made(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
        names = _names(problem)
        sizes = [_most_layers(problem, quant, seats, name) for name in names]
        found = servers(problem, quant, names, sizes)
        return choose(problem, quant, found, seats) if found else []

    return made


def _fixed_order(problem: Problem, quant: QuantScheme, seats: int) -> list[Spans]:
    """Least time of a whole request over nodes that keep their order; nodes may be left out."""
    names = _names(problem)
    classes = tuple(NodeClass((name,)) for name in names)
    plain = tuple(Way(owner, quant) for owner in range(len(names)))
    load = load_of(problem, seats, min(problem.serving.micro_batches, seats), 1.0)
    prompt, _, decode, *_ = criteria(problem, classes, plain, load)
    stage, hop = prompt.stage + decode.stage, prompt.hop + decode.hop
    enter, leave = prompt.enter + decode.enter, prompt.leave + decode.leave
    width = stage.shape[1]
    table = np.full((len(names), width), np.inf)
    way: dict[tuple[int, int], tuple[int, int]] = {}
    for node in range(len(names)):
        arrived = np.full(width, np.inf)
        arrived[0], before = enter[node], np.full(width, -1)
        if node:
            via = table[:node] + hop[:node, node, None]
            before[1:] = via.argmin(axis=0)[1:]
            arrived[1:] = via.min(axis=0)[1:]
        ways = arrived[:, None] + stage[node]
        table[node] = ways.min(axis=0)
        starts = ways.argmin(axis=0)
        way |= {(node, stop): (int(before[s]), int(s)) for stop, s in enumerate(starts)}
    ends = table[:, -1] + leave
    node, stop = int(ends.argmin()), width - 1
    if not np.isfinite(ends[node]):
        return []
    spans: Spans = []
    while stop:
        came, start = way[node, stop]
        spans.append((names[node], start, stop))
        node, stop = came, start
    return [spans[::-1]]


def _names(problem: Problem) -> list[str]:
    """The nodes in the scenario's order, as many as may be used."""
    most = problem.requirements.must_have.max_nodes
    return [node.id for node in allowed_nodes(problem)][:most]


def _most_layers(problem: Problem, quant: QuantScheme, seats: int, name: str) -> int:
    """Layers that fit wherever they lie, embedding or head included."""
    layers, room = problem.model.num_hidden_layers, capacity_bytes(problem, name)
    devices = problem.cluster.node(name).count

    def fits(count: int) -> bool:
        ends = ((0, count), (layers - count, layers))
        return all(needs(problem, *at, quant.id, seats, devices).total_bytes <= room for at in ends)

    low, high = 0, layers
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _linked(problem: Problem, names: list[str]) -> bool:
    return all(problem.cluster.connected(*ends) for ends in route(problem, names))


_MAKERS: dict[Baseline, Callable[[Problem, QuantScheme, int], list[Spans]]] = {
    "even": _even,
    "memory": _memory,
    "tflops": _tflops,
    "greedy": _greedy,
    "petals": _swarm(petals),
    "cg-bp": _swarm(cg_bp),
    "fixed-order": _fixed_order,
}
