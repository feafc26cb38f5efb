"""Search for windows with a large flow: lay blocks, then anneal, every step by exact maximum flow.

Construct: a ladder of wanted flows from the bound down; the first for which whole blocks cover all
layers is laid out, group after group of nodes with fast lines between them, in every order of the
groups; or each group that can hold all layers has a row of its own. Improve: simulated annealing
(Kirkpatrick et al. 1983) over windows that shift, grow, shrink, move, trade places or move a
boundary together. A move is refused before its flow is computed where even the least covered layer
would not pass the threshold. The energy adds a little of how far layers fall short of a somewhat
larger flow: the flow alone is a plateau.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from planner.core.rng import stream
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
from planner.plan.flow import Array, FlowProblem, Windows, flow_value

_RUNG = 0.98
"""Each wanted flow of the ladder over the one before."""
_RUNGS = 120
_FEASIBLE = 4
"""Rungs that are laid out from the first on for which blocks are found."""
_WAYS, _DRAWN = 54, 12
"""Orders of groups, with shapes of passages between them, that are all laid out; else so many."""
_HOT, _COLD = 0.03, 0.001
"""Temperature at the start and at the end, as shares of the best flow."""
_BEYOND = 1.1
"""The flow that layers should reach, over the best one so far."""
_SHORT = 0.3
"""Weight of what they lack."""
_PROPOSALS = 20
"""Most proposals for each flow that is computed."""


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


def annealed(
    problem: FlowProblem, start: Windows, rng: random.Random, flows: int
) -> tuple[Windows, float]:
    """The best windows on the way, and their flow."""
    now, covered = start, problem.covered(start)
    best, value = start, flow_value(problem, start)
    most = problem.most_layers

    def short(layers: Array) -> float:
        return _SHORT * float(np.maximum(_BEYOND * value - layers, 0.0).mean())

    energy, computed = value - short(covered), 0
    for _ in range(_PROPOSALS * flows):
        if computed >= flows:
            break
        heat = value * _HOT * (_COLD / _HOT) ** (computed / flows)
        move = rng.choice(_MOVES)(problem, now, covered, rng)
        if move is None or not _allowed(problem, most, move):
            continue
        layers = problem.covered(move)
        lacking = short(layers)
        threshold = energy + heat * math.log(1.0 - rng.random())
        if layers.min() - lacking < threshold:
            continue
        computed += 1
        flow = flow_value(problem, move)
        if flow - lacking < threshold:
            continue
        now, covered, energy = move, layers, flow - lacking
        if flow > value * (1 + 1e-9):
            best, value = move, flow
            energy = flow - short(covered)
    return best, value


def _allowed(problem: FlowProblem, most: Windows, windows: Windows) -> bool:
    held = windows[:, 1] - windows[:, 0]
    return bool(
        (held >= 1).all()
        and (held <= most).all()
        and (windows[:, 0] >= 0).all()
        and (windows[:, 1] <= problem.layers).all()
    )


def _shifted(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    moved = now.copy()
    moved[rng.randrange(len(now))] += rng.choice((-3, -2, -1, 1, 2, 3))
    return moved


def _resized(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    moved = now.copy()
    moved[rng.randrange(len(now)), rng.randrange(2)] += rng.choice((-1, 1))
    return moved


def _relocated(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    """A node to another place, mostly where the least covered layer is."""
    moved, node = now.copy(), rng.randrange(len(now))
    held = rng.randint(1, int(problem.most_layers[node]))
    at = int(covered.argmin()) if rng.random() < 0.7 else rng.randrange(problem.layers)
    start = min(max(0, at - rng.randrange(held)), problem.layers - held)
    moved[node] = start, start + held
    return moved


def _joined(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    """A node's window begins or ends where another's does."""
    moved, node = now.copy(), rng.randrange(len(now))
    edge = int(now[rng.randrange(len(now)), rng.randrange(2)])
    held = rng.randint(1, int(problem.most_layers[node]))
    moved[node] = (edge, edge + held) if rng.random() < 0.5 else (edge - held, edge)
    return moved


def _traded(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    """Two nodes trade places, each holding no more than it can."""
    one, two = rng.randrange(len(now)), rng.randrange(len(now))
    if one == two:
        return None
    moved = now.copy()
    moved[[one, two]] = now[[two, one]]
    for node in (one, two):
        beyond = int(moved[node, 1] - moved[node, 0] - problem.most_layers[node])
        if beyond > 0:
            if rng.random() < 0.5:
                moved[node, 0] += beyond
            else:
                moved[node, 1] -= beyond
    return moved


def _boundary(
    problem: FlowProblem, now: Windows, covered: Array, rng: random.Random
) -> Windows | None:
    """All or most windows that meet at a layer move their edge together."""
    edge, by = int(now[rng.randrange(len(now)), rng.randrange(2)]), rng.choice((-1, 1))
    if edge in (0, problem.layers):
        return None
    share = rng.choice((0.7, 1.0))
    at_edge = np.argwhere(now == edge)
    picked = [tuple(pair) for pair in at_edge if rng.random() < share]
    if not picked:
        return None
    moved = now.copy()
    for node, end in picked:
        moved[node, end] += by
    return moved


_Move = Callable[[FlowProblem, Windows, Array, random.Random], Windows | None]
_MOVES: tuple[_Move, ...] = (
    _shifted, _shifted, _resized, _resized, _relocated, _joined, _traded, _boundary,
)  # fmt: skip
