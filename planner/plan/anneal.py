"""Annealing of windows: every step by exact maximum flow.

Simulated annealing (Kirkpatrick et al. 1983) over windows that shift, grow, shrink, move, trade
places or move a boundary together. A move is refused before its flow is computed where even the
least covered layer would not pass the threshold. The energy adds a little of how far layers fall
short of a somewhat larger flow: the flow alone is a plateau.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np

from planner.plan.flow import Array, FlowProblem, Windows, flow_value

_HOT, _COLD = 0.03, 0.001
"""Temperature at the start and at the end, as shares of the best flow."""
_BEYOND = 1.1
"""The flow that layers should reach, over the best one so far."""
_SHORT = 0.3
"""Weight of what they lack."""
_PROPOSALS = 20
"""Most proposals for each flow that is computed."""


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
