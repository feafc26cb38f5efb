"""Flow: how many tokens per second nodes pass on that hold overlapping ranges of layers.

Helix's objective (Mei et al., ASPLOS 2025). Sets: nodes i, lines (i, j), layers 0 .. L - 1.
Variables: the window [start, stop) of layers that each node holds, tokens per second on each line.
Objective: the most tokens per second from the source, through all layers in order, to the sink.
Constraints: a token that left node i may go on at any node j that holds the layer i stopped at,
start_j <= stop_i < stop_j; a node passes what it can compute with so many layers, a line what its
bandwidth allows. For given windows this is a maximum flow, which is found exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

Array = NDArray[np.float64]
Windows = NDArray[np.int64]
"""[node, (start, stop)]; an unused node has start = stop."""

_WHOLE = 2**30
"""Flows are counted in parts of the most that can enter, of which there are so many."""


@dataclass(frozen=True, slots=True)
class FlowProblem:
    """What nodes and lines let pass (tokens/s)."""

    layers: int
    rates: Array
    """[node, layers held]; nothing at 0 layers and beyond what the node holds."""
    enter: Array
    """[node], from the source."""
    leave: Array
    """[node], to the sink."""
    between: Array
    """[node, node], in this direction."""

    @property
    def most_layers(self) -> Windows:
        """Layers that each node can hold."""
        held: Windows = (self.rates > 0).cumsum(axis=1).argmax(axis=1)
        return held

    def of(self, nodes: NDArray[np.int64]) -> FlowProblem:
        """The same with some of the nodes only."""
        between = self.between[np.ix_(nodes, nodes)]
        return FlowProblem(
            self.layers, self.rates[nodes], self.enter[nodes], self.leave[nodes], between
        )

    def rates_of(self, windows: Windows) -> Array:
        """What each node passes with its window."""
        rates: Array = self.rates[np.arange(len(windows)), windows[:, 1] - windows[:, 0]]
        return rates

    def covered(self, windows: Windows) -> Array:
        """[layer]: what the nodes that hold it pass in all; no flow is larger than the least."""
        steps = np.zeros(self.layers + 1)
        rates = self.rates_of(windows)
        np.add.at(steps, windows[:, 0], rates)
        np.add.at(steps, windows[:, 1], -rates)
        return steps[:-1].cumsum()


@dataclass(frozen=True, slots=True)
class Flow:
    """A greatest flow (tokens/s)."""

    value: float
    """Rounded down by less than the number of lines in 2**30 parts of what can enter."""
    between: Array
    """[node, node]"""
    enter: Array
    """[node]"""


def flow_value(problem: FlowProblem, windows: Windows) -> float:
    """The most tokens per second these windows pass."""
    return _solved(problem, windows)[0]


def greatest_flow(problem: FlowProblem, windows: Windows) -> Flow:
    """The same with what each line carries."""
    value, unit, arcs = _solved(problem, windows)
    count = len(windows)
    moved = np.maximum(arcs.toarray(), 0) * unit
    return Flow(value, moved[count + 1 : -1, 1 : count + 1], moved[0, 1 : count + 1])


def _solved(problem: FlowProblem, windows: Windows) -> tuple[float, float, csr_array]:
    """Value, tokens/s of one part, and the flow over source, entries, exits and sink of nodes.

    Rows of the graph in their order: the source, each node's entry, each node's exit, the sink.
    """
    count, start, stop = len(windows), windows[:, 0], windows[:, 1]
    rates = problem.rates_of(windows)
    first, last = np.nonzero((start == 0) & (stop > 0))[0], stop == problem.layers
    entering = np.minimum(problem.enter[first], rates[first])
    if not len(first) or not last.any():
        return 0.0, 0.0, csr_array((2 * count + 2, 2 * count + 2))
    src, dst = np.nonzero((start <= stop[:, None]) & (stop[:, None] < stop))
    ends = np.nonzero(last)[0]
    order = np.concatenate([src, ends]).argsort(kind="stable")
    onward = np.concatenate([dst + 1, np.full(len(ends), 2 * count + 1)])[order]
    limit = np.minimum(problem.between[src, dst], np.minimum(rates[src], rates[dst]))
    leaving = np.concatenate([limit, np.minimum(problem.leave[ends], rates[ends])])[order]
    total = float(entering.sum())
    unit = total / _WHOLE
    limits = np.minimum(np.concatenate([entering, rates, leaving]), total) / unit
    columns = np.concatenate([first + 1, np.arange(count) + count + 1, onward])
    lengths = np.bincount(src, minlength=count) + last
    rows = np.concatenate([[0, len(first)], np.ones(count, dtype=np.int64), lengths, [0]]).cumsum()
    graph = csr_array(
        (limits.astype(np.int32), columns.astype(np.int32), rows.astype(np.int32)),
        shape=(2 * count + 2, 2 * count + 2),
    )
    solved = maximum_flow(graph, 0, 2 * count + 1)
    return float(solved.flow_value * unit), unit, solved.flow


def windows_of(pairs: Sequence[tuple[int, int]]) -> Windows:
    """Windows from (start, stop) by node."""
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
