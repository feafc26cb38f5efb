"""Swarms: servers that choose windows of blocks one by one, and the ways clients find through them.

``petals`` follows Petals (Borzunov et al. 2023; block_selection.py, sequence_manager.py of 2024): a
server takes the window whose sorted throughputs are lexicographically least, all move once the
weakest block would gain a third, and a client takes the shortest way by latency. ``cg_bp`` follows
conservative greedy block placement with waiting-aware routing (Sun et al., arXiv 2512.21884):
memory is first set aside for the wanted sessions, servers with the least time per block choose
first, and take the window where sessions are missing most. Neither knows bandwidth, load or price,
but for what Petals' throughput says of a server's line.

In both, ways may share a server. Plans here are pipelines of distinct nodes: the first way is the
client's, the next one leads through the servers that are left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.core.cost import Batch, chip, stage_time
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.room import capacity_bytes, needs

Array = NDArray[np.float64]
Spans = list[tuple[str, int, int]]
"""Nodes in hop order with their layers."""
Window = tuple[int, int]

_WIRE_BITS = 16
"""Bits of an activation in Petals' estimate of what a line passes."""
_TIMED_TOKENS = 1024
"""Tokens of the forward pass by which a Petals server rates itself."""
_BALANCE = 0.75
"""Servers move where the weakest block has less than this share of what it could have."""
_SWEEPS = 10
"""Most rounds in which all servers choose anew."""
_OVERHEAD_S = 0.018
"""What Petals adds for each server on a way."""


@dataclass(frozen=True, slots=True)
class Server:
    """A node as the swarm knows it."""

    node: str
    size: int
    """Blocks it can hold."""
    block_s: float
    """One token through one block."""
    rate: float
    """Requests/s that it announces for each of its blocks."""
    round_trip_s: float
    """To the coordinator and back; infinite where there is no line."""


def petals(
    problem: Problem, quant: QuantScheme, servers: Sequence[Server], seats: int
) -> list[Spans]:
    """Pipelines along the shortest ways through windows that servers chose to even throughput."""
    layers, windows = problem.model.num_hidden_layers, list[Window]()
    rates = np.zeros(layers)
    for server in servers:
        window = _weakest(rates, server.size)
        rates[window[0] : window[1]] += server.rate
        windows.append(window)
    moved = _balanced(rates, servers, windows)
    latency_s = _one_way_s(problem, [server.node for server in servers])
    return _ways(servers, moved, layers, latency_s + _OVERHEAD_S)


def cg_bp(
    problem: Problem, quant: QuantScheme, servers: Sequence[Server], seats: int
) -> list[Spans]:
    """Pipelines through windows that make room for all users' sessions, fastest servers first."""
    layers = problem.model.num_hidden_layers
    wanted = max(seats, problem.workload.concurrency or seats)
    spent_s = [one.block_s + one.round_trip_s / one.size for one in servers]
    order = sorted(range(len(servers)), key=lambda at: (spent_s[at], at))
    most_s = max((value for value in spent_s if math.isfinite(value)), default=0.0) + 1
    held, lacking = np.zeros(layers), np.full(layers, wanted * most_s)
    sessions = np.zeros(layers)
    windows: list[Window] = [(0, 0)] * len(servers)
    for at in order:
        server, size = servers[at], servers[at].size
        if not math.isfinite(spent_s[at]):
            continue
        short, starts = sessions < wanted, range(layers - size + 1)
        open_starts = [start for start in starts if short[start : start + size].any()]
        if open_starts:
            start = max(open_starts, key=lambda at: (lacking[at : at + size].sum(), -at))
        else:
            start = _weakest(held, size)[0]
        window = windows[at] = start, start + size
        can = _sessions(problem, quant, server, window)
        part = slice(*window)
        missing = np.maximum(wanted - sessions[part], 0)
        lacking[part] -= (most_s - spent_s[at]) * np.minimum(missing, can)
        sessions[part] += can
        held[part] += can / spent_s[at]
    hops = np.array([server.round_trip_s for server in servers])
    through = np.broadcast_to(hops, (len(servers) + 1, len(servers))).copy()
    return _ways(servers, windows, layers, through)


def servers(
    problem: Problem, quant: QuantScheme, names: Sequence[str], sizes: Sequence[int]
) -> list[Server]:
    """The nodes as servers, without those that hold no block."""
    middle = problem.model.num_hidden_layers // 2
    home, hidden_bits = problem.cluster.coordinator, _WIRE_BITS * problem.model.hidden_size
    found = []
    for name, size in zip(names, sizes, strict=True):
        if not size:
            continue

        def block_s(batch: Batch, name: str = name) -> float:
            device = chip(problem, name)
            return stage_time(problem.model, middle, middle + 1, quant, device, batch).total_s

        tokens = min(_TIMED_TOKENS, problem.model.max_position_embeddings)
        computed = tokens / block_s(Batch.prefill(tokens)) / ((size + 1) / 2)
        lines = [
            line.bytes_per_s
            for ends in ((home, name), (name, home))
            if problem.cluster.connected(*ends) and (line := problem.cluster.link(*ends))
        ]
        sent = min(lines, default=math.inf) * 8 / hidden_bits
        ends_s = _latency_s(problem, home, name) + _latency_s(problem, name, home)
        step = Batch.decode(1, problem.workload.prompts.mean_tokens)
        found.append(Server(name, size, block_s(step), min(computed, sent), ends_s))
    return found


def _weakest(rates: Array, size: int) -> Window:
    """The window whose sorted rates are lexicographically least, the first of equals."""
    starts = range(len(rates) - size + 1)
    start = min(starts, key=lambda at: (tuple(np.sort(rates[at : at + size])), at))
    return start, start + size


def _balanced(rates: Array, servers: Sequence[Server], windows: Sequence[Window]) -> list[Window]:
    """Windows after all servers chose anew until none moves, if the weakest block gains enough."""
    after, moved = rates.copy(), list(windows)
    for _ in range(_SWEEPS):
        before = list(moved)
        for at, server in enumerate(servers):
            after[slice(*moved[at])] -= server.rate
            moved[at] = _weakest(np.round(after, 9), server.size)
            after[slice(*moved[at])] += server.rate
        if moved == before:
            break
    gains = after.min() > 0 and rates.min() < _BALANCE * after.min()
    return moved if gains else list(windows)


def _sessions(problem: Problem, quant: QuantScheme, server: Server, window: Window) -> int:
    """Sessions of the longest request that a server has room for beside its blocks."""
    room = capacity_bytes(problem, server.node)
    devices = problem.cluster.node(server.node).count
    low, high = 0, problem.serving.max_num_seqs or problem.engine.max_num_seqs
    while low < high:
        middle = (low + high + 1) // 2
        fits = needs(problem, *window, quant.id, middle, devices).total_bytes <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _ways(
    servers: Sequence[Server], windows: Sequence[Window], layers: int, hop_s: Array
) -> list[Spans]:
    """Shortest ways from the first layer to the last, each through servers that are still free.

    ``hop_s[src + 1, dst]`` is what it takes to come to a server; from the coordinator at src -1.
    Whoever enters a server stays to the end of its window.
    """
    free = [at for at, window in enumerate(windows) if window[1] > window[0]]
    found: list[Spans] = []
    while way := _shortest(servers, windows, layers, hop_s, free):
        stops = [0, *(windows[at][1] for at in way)]
        pairs = zip(way, itertools.pairwise(stops), strict=True)
        found.append([(servers[at].node, start, stop) for at, (start, stop) in pairs])
        free = [at for at in free if at not in way]
    return found


def _shortest(
    servers: Sequence[Server],
    windows: Sequence[Window],
    layers: int,
    hop_s: Array,
    free: Sequence[int],
) -> list[int]:
    """The shortest way as servers in their order; empty where there is none."""
    order = sorted(free, key=lambda at: (windows[at][1], at))
    stops = np.array([windows[at][1] for at in order], dtype=np.int64)
    reached, came = np.full(len(order), np.inf), np.full(len(order), -1)
    rows = np.array(order, dtype=np.int64) + 1
    for rank, at in enumerate(order):
        (start, stop), block_s = windows[at], servers[at].block_s
        if start == 0:
            reached[rank] = hop_s[0, at] + stop * block_s
        past = slice(0, int(np.searchsorted(stops, stop)))
        ways_s = reached[past] + hop_s[rows[past], at] + (stop - stops[past]) * block_s
        ways_s[stops[past] < start] = np.inf
        if len(ways_s) and ways_s.min() < reached[rank]:
            reached[rank], came[rank] = ways_s.min(), int(ways_s.argmin())
    ends = np.where(stops == layers, reached, np.inf)
    if not len(ends) or not np.isfinite(ends.min()):
        return []
    rank, way = int(ends.argmin()), []
    while rank >= 0:
        way.append(order[rank])
        rank = int(came[rank])
    return way[::-1]


def _one_way_s(problem: Problem, names: Sequence[str]) -> Array:
    """[src + 1, dst]: latency between the servers, from the coordinator in the first row."""
    ends = [problem.cluster.coordinator, *names]
    return np.array([[_latency_s(problem, src, dst) for dst in names] for src in ends])


def _latency_s(problem: Problem, src: str, dst: str) -> float:
    if not problem.cluster.connected(src, dst):
        return math.inf
    line = problem.cluster.link(src, dst)
    return line.one_way_latency_s if line else 0.0


Swarm = Callable[[Problem, QuantScheme, Sequence[Server], int], list[Spans]]
