"""Search for windows with a large flow: lay blocks, then anneal.

Construct: a ladder of wanted flows from the bound down; the first for which whole blocks cover all
layers is laid out, group after group of nodes with fast lines between them, in every order of the
groups; or each group that can hold all layers has a row of its own. Improve: ``anneal.py``.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from planner.core.rng import stream
from planner.plan.anneal import annealed
from planner.plan.cover import (
    Block,
    Counts,
    Edges,
    Kinds,
    columns,
    flow_bound,
    kinds_of,
    whole_blocks,
)
from planner.plan.flow import FlowProblem, Windows, flow_value

_RUNG = 0.98
"""Each wanted flow of the ladder over the one before."""
_RUNGS = 120
_FEASIBLE = 4
"""Rungs that are laid out from the first on for which blocks are found."""
_WAYS, _DRAWN = 54, 12
"""Orders of groups, with shapes of passages between them, that are all laid out; else so many."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Windows, what they pass, and what none can pass (tokens/s)."""

    windows: Windows
    value: float
    bound: float
    laid: float
    """What the construction alone passes."""

    @property
    def gap(self) -> float:
        """How much more than the value could be possible, as a share of the value."""
        return self.bound / self.value - 1 if self.value else math.inf


def place(problem: FlowProblem, seed: int, flows: int) -> Placed:
    """Windows with a large flow, by computing at most about ``flows`` maximum flows."""
    bound = flow_bound(problem)
    rng = stream(seed, "flow")
    start = _laid(problem, bound, rng)
    laid = flow_value(problem, start)
    windows, value = annealed(problem, start, rng, flows)
    return Placed(windows, value, max(bound, value), laid)


def _laid(problem: FlowProblem, bound: float, rng: random.Random) -> Windows:
    """The better of one row through all groups of nodes, and a row in each group."""
    groups = _groups(problem, bound)
    row = _row(problem, bound, groups, rng)
    apart = _apart(problem, groups, rng)
    if apart is None or flow_value(problem, apart) <= flow_value(problem, row):
        return row
    return apart


def _apart(problem: FlowProblem, groups: Counts, rng: random.Random) -> Windows | None:
    """A row in each group that holds all layers, and one through the others together."""
    room = np.bincount(groups, weights=problem.most_layers)
    able = room >= problem.layers
    if len(room) == 1 or not able.any():
        return None
    windows, spare = np.zeros((len(groups), 2), dtype=np.int64), list[int]()
    teams = [np.nonzero(groups == group)[0] for group in np.nonzero(able)[0]]
    for nodes in (*teams, np.nonzero(~able[groups])[0]):
        part = problem.of(nodes)
        bound = flow_bound(part) if len(nodes) else 0.0
        if bound > 0:
            windows[nodes] = _laid(part, bound, rng)
        else:
            spare += nodes.tolist()
    return _beside(problem, windows, spare)


def _row(problem: FlowProblem, bound: float, groups: Counts, rng: random.Random) -> Windows:
    """Blocks in a row, and the nodes they do not use where layers are covered least."""
    kinds, sizes = kinds_of(problem, groups), np.bincount(groups)
    best = _beside(problem, np.zeros((len(groups), 2), dtype=np.int64), range(len(groups)))
    least, tried = flow_value(problem, best), 0
    of_kind = np.array([groups[nodes[0]] for nodes in kinds.members])
    between = problem.between[groups[:, None] != groups]
    line = float(np.median(between)) if between.size else math.inf
    ways = _ways(int(groups.max()) + 1, rng)
    for rung in range(_RUNGS):
        wanted = bound * _RUNG**rung
        generated = columns(problem.layers, kinds, wanted)
        if not generated:
            continue
        lines = max(1, math.ceil(wanted / line)) if line > 0 else 1
        laid: dict[bytes, list[Block]] = {}
        for order, shapes in ways:
            widths = _widths(order, shapes, lines)
            key = widths.tobytes()
            if (widths.max(axis=1) > sizes).any():
                continue
            if key not in laid:
                edges = Edges(of_kind, widths)
                laid[key] = whole_blocks(problem.layers, kinds, generated, edges)
            if not laid[key]:
                continue
            windows = _in_a_row(problem, kinds, of_kind, laid[key], order, widths)
            value = flow_value(problem, windows)
            if value > least:
                best, least = windows, value
        tried += any(laid.values())
        if tried == _FEASIBLE or least >= wanted:
            break
    return best


_Way = tuple[tuple[int, ...], tuple[int, ...]]
"""Groups in their order, and the shape of each passage from one to the next."""


def _ways(groups: int, rng: random.Random) -> list[_Way]:
    """All orders of the groups and shapes of passages, or some where there are many."""
    count = math.factorial(groups) * 3 ** (groups - 1)
    if count <= _WAYS:
        orders = itertools.permutations(range(groups))
        return list(itertools.product(orders, itertools.product(range(3), repeat=groups - 1)))
    return [
        (
            tuple(rng.sample(range(groups), groups)),
            tuple(rng.randrange(3) for _ in range(groups - 1)),
        )
        for _ in range(_DRAWN)
    ]


def _widths(order: tuple[int, ...], shapes: tuple[int, ...], lines: int) -> Counts:
    """[group, (first, last)]: nodes of its blocks at passages, so that enough lines lead over.

    A passage goes from one node to many, from many to one, or from some to as many.
    """
    widths = np.ones((len(order), 2), dtype=np.int64)
    some = math.ceil(math.sqrt(lines))
    ends = ((1, lines), (lines, 1), (some, some))
    for (before, after), shape in zip(itertools.pairwise(order), shapes, strict=True):
        widths[before, 1], widths[after, 0] = ends[shape]
    return widths


def _groups(problem: FlowProblem, wanted: float) -> Counts:
    """[node]: groups whose nodes reach each other over lines that pass the wanted flow."""
    fast = np.minimum(problem.between, problem.between.T) >= wanted
    groups: Counts = connected_components(csr_array(fast), directed=False)[1]
    return groups


def _in_a_row(
    problem: FlowProblem,
    kinds: Kinds,
    of_kind: Counts,
    found: list[Block],
    order: tuple[int, ...],
    widths: Counts,
) -> Windows:
    """Windows of blocks that follow each other, wide ones where groups meet."""
    windows = np.zeros((len(problem.rates), 2), dtype=np.int64)
    free = [list(nodes) for nodes in kinds.members]
    row: list[Block] = []
    for group in order:
        own = [block for block in found if of_kind[int(block.used.argmax())] == group]
        own.sort(key=_nodes)
        last = [own.pop(_narrowest(own, int(widths[group, 1])))] if own else []
        first = [own.pop(_narrowest(own, int(widths[group, 0])))] if own else []
        row += [*first, *own, *last]
    at = 0
    for block in row:
        stop = min(at + block.layers, problem.layers)
        for kind, times in enumerate(block.used):
            for _ in range(times if stop > at else 0):
                windows[free[kind].pop(0)] = at, stop
        at = stop
    return _beside(problem, windows, sorted(itertools.chain.from_iterable(free)))


def _beside(problem: FlowProblem, windows: Windows, nodes: Iterable[int]) -> Windows:
    """The windows with further nodes where layers are covered least."""
    for node in nodes:
        windows[node] = _least_covered(problem, windows, node)
    return windows


def _nodes(block: Block) -> int:
    return int(block.used.sum())


def _narrowest(found: list[Block], width: int) -> int:
    """Index of the block with the fewest nodes that has so many, or of the widest."""
    return next((at for at, one in enumerate(found) if _nodes(one) >= width), len(found) - 1)


def _least_covered(problem: FlowProblem, windows: Windows, node: int) -> tuple[int, int]:
    """The window of a node that adds most to the logarithms of what covers the layers."""
    covered = problem.covered(windows) + 1e-9
    best, window = -1.0, (0, 1)
    for held in range(1, int(problem.most_layers[node]) + 1):
        gains = np.log1p(problem.rates[node, held] / covered)
        sums = np.convolve(gains, np.ones(held), mode="valid")
        if sums.max() > best:
            best, at = float(sums.max()), int(sums.argmax())
            window = at, at + held
    return window
