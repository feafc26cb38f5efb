"""Cover: blocks of layers whose nodes together pass a wanted flow, as few nodes as can be.

Nodes of one kind pass the same. A *cover* of a layer is a multiset of (kind, layers held) whose
rates sum up to the wanted flow: every cut between two layers needs one. A node with k layers
helps to cover k of them, so it costs each 1/k of a node.

Bound. Variables: how many layers x_p have the cover p. Maximise the layers sum x_p, so that no kind
is used more often than it has nodes. Where that is less than all layers, no placement passes the
wanted flow. There are too many covers to list: they are generated, the cheapest at the LP's prices
first (Gilmore and Gomory 1961). At any prices, the worth of all nodes over the price of the
cheapest cover bounds the layers (Farley 1990), so the bound does not rest on the LP's tolerances.

Blocks. The same with covers of nodes that hold the same layers, counted in whole blocks: an
integer program over the generated columns gives windows that follow each other without overlap.
Between groups of nodes lines are slow, so a group that is used needs blocks at its ends that are
wide enough for many lines at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from planner.plan.flow import Array, FlowProblem

_FINE, _COARSE = 2000, 400
"""Parts of the wanted flow in which rates are counted, for the bound and for blocks."""
_ROUNDS = 200
"""Most columns that are generated for one wanted flow."""
_NODES = 2000
"""Most nodes of an integer program's search tree."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Kinds:
    """Nodes that are alike."""

    members: tuple[tuple[int, ...], ...]
    rates: Array
    """[kind, layers held]"""

    @property
    def counts(self) -> Array:
        """Nodes of each kind."""
        return np.array([len(nodes) for nodes in self.members], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Block:
    """Nodes that hold the same layers."""

    layers: int
    used: Counts
    """[kind]"""


@dataclass(frozen=True, slots=True)
class Edges:
    """What blocks at the ends of a group must be."""

    groups: Counts
    """[kind]: the group its nodes are in."""
    widths: Counts
    """[group, (first, last)]: nodes that its first and last block need if it is used."""


def kinds_of(problem: FlowProblem, groups: Counts | None = None) -> Kinds:
    """Nodes by what they pass, and by group where there are groups."""
    found: dict[tuple[int, bytes], list[int]] = {}
    for node, row in enumerate(problem.rates):
        group = 0 if groups is None else int(groups[node])
        found.setdefault((group, row.tobytes()), []).append(node)
    members = tuple(tuple(nodes) for nodes in found.values())
    return Kinds(members, problem.rates[[nodes[0] for nodes in members]])


def flow_bound(problem: FlowProblem, tolerance: float = 1e-3) -> float:
    """A flow (tokens/s) that no placement passes, whatever its lines let through."""
    kinds = kinds_of(problem)
    if problem.most_layers.sum() < problem.layers:
        return 0.0
    low, high = 0.0, float(problem.rates.max(axis=1).sum())
    while high - low > tolerance * high:
        wanted = (low + high) / 2
        if _out_of_reach(problem.layers, kinds, wanted):
            high = wanted
        else:
            low = wanted
    return min(high, float(problem.enter.sum()), float(problem.leave.sum()))


def _out_of_reach(layers: int, kinds: Kinds, wanted: float) -> bool:
    """Whether it is proven that no placement passes the wanted flow."""
    kind, held = np.nonzero(kinds.rates > 0)
    parts = np.minimum(np.ceil(kinds.rates[kind, held] * _FINE / wanted - 1e-9), _FINE)
    parts = parts.astype(np.int64)[None, :]
    each = np.eye(len(kinds.members))
    found = [
        each[k] * math.ceil(_FINE / part) / layers_held
        for k, layers_held, part in zip(kind, held, parts[0], strict=True)
    ]
    for _ in range(_ROUNDS):
        worth, prices = _relaxed(np.array(found).T, np.ones(len(found)), kinds.counts)
        if worth >= layers:
            return False
        costs = prices[kind] / held
        least, picked = _cheapest(parts, costs[None, :], _FINE)
        if least[0] > 0 and prices @ kinds.counts / least[0] < layers * (1 - 1e-9):
            return True
        if least[0] >= 1 - 1e-9:
            return False
        found.append(np.bincount(kind, weights=picked[0] / held, minlength=len(kinds.members)))
    return False


def columns(layers: int, kinds: Kinds, wanted: float) -> list[Block]:
    """Blocks that pass the wanted flow, from which all layers could be covered; or none."""
    lengths = np.arange(1, kinds.rates.shape[1])
    parts = np.floor(kinds.rates[:, 1:].T * _COARSE / wanted + 1e-9).astype(np.int64)
    parts = np.minimum(parts, _COARSE)
    each = np.eye(len(kinds.members), dtype=np.int64)
    found = [
        Block(int(length), each[kind] * math.ceil(_COARSE / row[kind]))
        for length, row in zip(lengths, parts, strict=True)
        for kind in np.nonzero(row > 0)[0]
    ]
    for _ in range(_ROUNDS):
        if not found:
            return []
        matrix, worth = _as_matrix(found)
        most, prices = _relaxed(matrix, worth, kinds.counts)
        least, picked = _cheapest(parts, np.broadcast_to(prices, parts.shape), _COARSE)
        gains = np.where(np.isfinite(least), lengths - least, -np.inf)
        better = np.nonzero(gains > 1e-6)[0]
        if not len(better):
            return found if most > layers - 1e-6 else []
        found += [Block(int(lengths[at]), picked[at].astype(np.int64)) for at in better]
    return found


def whole_blocks(layers: int, kinds: Kinds, found: list[Block], edges: Edges) -> list[Block]:
    """Blocks that cover all layers with the fewest nodes, the last perhaps more; or none.

    Variables: how often each block is used, and whether each group is.
    """
    for width in np.unique(edges.widths):
        narrow = [one for one in found if (one.used > 0).sum() == 1 and one.used.max() < width]
        found = found + [Block(one.layers, np.where(one.used, width, 0)) for one in narrow]
    groups, size = len(edges.widths), len(found)
    matrix, worth = _as_matrix(found)
    nodes = matrix.sum(axis=0)
    spans = np.array([len(set(edges.groups[block.used > 0])) for block in found])
    lies_in = edges.groups[(matrix > 0).argmax(axis=0)] == np.arange(groups)[:, None]
    wider, narrower = edges.widths.max(axis=1), edges.widths.min(axis=1)
    used, none = np.eye(groups), np.zeros((len(kinds.members), groups))
    solved = milp(
        np.concatenate([nodes, np.zeros(groups)]),
        constraints=[
            LinearConstraint(np.hstack([matrix, none]), ub=kinds.counts),
            LinearConstraint(np.concatenate([worth, np.zeros(groups)]), lb=layers),
            LinearConstraint(np.hstack([lies_in, -layers * used]), ub=0),
            LinearConstraint(np.hstack([lies_in & (nodes >= wider[:, None]), -used]), lb=0),
            LinearConstraint(
                np.hstack([lies_in & (nodes >= narrower[:, None]), -2 * used])[narrower > 1], lb=0
            ),
        ],
        integrality=np.ones(size + groups),
        bounds=Bounds(0, np.concatenate([np.where(spans == 1, np.inf, 0), np.ones(groups)])),
        options={"node_limit": _NODES},
    )
    if solved.x is None:
        return []
    return [
        block
        for block, times in zip(found, solved.x.round().astype(int), strict=False)
        for _ in range(times)
    ]


def _as_matrix(found: list[Block]) -> tuple[Array, Array]:
    """[kind, block]: nodes of each kind; [block]: layers."""
    matrix = np.array([block.used for block in found], dtype=np.float64).T
    return matrix, np.array([block.layers for block in found], dtype=np.float64)


def _relaxed(matrix: Array, worth: Array, counts: Array) -> tuple[float, Array]:
    """Most worth of columns within the counts, and the price of each kind."""
    solved = linprog(-worth, A_ub=matrix, b_ub=counts, method="highs")
    return -float(solved.fun), np.maximum(-solved.ineqlin.marginals, 0.0)


def _cheapest(parts: Counts, costs: Array, whole: int) -> tuple[Array, Array]:
    """By row: least cost of items, any number of each, whose parts sum to the whole; their numbers.

    A knapsack by dynamic programming: best[q] = min over items (best[q - parts] + cost).
    """
    rows, items = parts.shape
    every = np.arange(rows)
    best, taken = np.zeros((rows, whole + 1)), np.zeros((rows, whole + 1), dtype=np.int64)
    costs = np.where(parts > 0, costs, np.inf)
    for part in range(1, whole + 1):
        ways = best[every[:, None], np.maximum(part - parts, 0)] + costs
        taken[:, part] = ways.argmin(axis=1)
        best[:, part] = ways[every, taken[:, part]]
    numbers = np.zeros((rows, items))
    for row in np.nonzero(np.isfinite(best[:, whole]))[0]:
        left = whole
        while left > 0:
            item = taken[row, left]
            numbers[row, item] += 1
            left -= parts[row, item]
    return best[:, whole], numbers
