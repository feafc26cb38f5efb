"""Fits: which layers a node has room for, by the parts that their memory is a sum of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.core.problem import Problem
from planner.plan.room import capacity_bytes, needs
from planner.plan.ways import Way


def fits(problem: Problem, node: str, way: Way, seats: int) -> NDArray[np.float64]:
    """[start, stop]: 0 where a stage fits on a node, infinite where it does not."""
    layers, quant = problem.model.num_hidden_layers, way.quant
    devices = problem.cluster.node(node).count
    middle = np.zeros(layers + 1)
    empty = needs(problem, 0, 1, quant.id, seats, devices, way.split)
    for index in range(layers):
        alone = _without_ends(problem, way, index, seats, devices)
        middle[index + 1] = middle[index] + alone
    spans = middle[None, :] - middle[:, None]
    model = problem.model
    ends = np.zeros_like(spans)
    ends += empty.reserve_bytes
    first = model.embedding_params * quant.embedding_bits / 8
    head = model.head_params * quant.head_bits / 8
    ends[0, :] += first
    ends[:, layers] += head
    if model.tie_word_embeddings:
        ends[0, layers] -= head
    inside = empty.activation_bytes
    last = needs(problem, layers - 1, layers, quant.id, seats).activation_bytes
    inside_only = inside if layers > 1 else last
    ends += inside_only
    ends[:, layers] += last - inside_only
    blocked = np.tril(np.ones((layers + 1, layers + 1), dtype=bool))
    bad = blocked | (spans + ends > capacity_bytes(problem, node) * (1 + 1e-12))
    return np.where(bad, np.inf, 0.0)


def _without_ends(problem: Problem, way: Way, index: int, seats: int, devices: int) -> float:
    """Bytes of one layer's weights and cache."""
    quant = way.quant
    memory = needs(problem, index, index + 1, quant.id, seats, devices, way.split)
    weights = memory.weights_bytes
    if index == 0:
        weights -= problem.model.embedding_params * quant.embedding_bits / 8
    last = index == problem.model.num_hidden_layers - 1
    if last and not (index == 0 and problem.model.tie_word_embeddings):
        weights -= problem.model.head_params * quant.head_bits / 8
    return weights + memory.kv_bytes
