"""Costs: what stages and hops of each node class contribute to the times of a pipeline.

A criterion is a number that a pipeline's metrics grow with: the seconds of a prompt, of all decode
steps at some batch, or the longest busy time of any stage or line. The first two are sums over
stages and hops, the last a maximum; all are arrays over layer ranges, because stage times are
sums over layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.core.cluster import Link
from planner.core.cost import Batch, chip, hidden_payload_bytes, transfer_time
from planner.core.cost.compute import Chip, embedding_time, fixed_s, head_time, layer_time
from planner.core.cost.transfer import token_payload_bytes
from planner.core.cost.traversal import coordinator_s
from planner.core.model import Layer
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import NodeClass
from planner.plan.queueing import Load
from planner.plan.room import capacity_bytes, needs
from planner.plan.times import decode_batch, over_steps

Array = NDArray[np.float64]
Kinds = NDArray[np.int64]
"""Numbers of lines; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One number of a pipeline, by what each part adds to it."""

    stage: Array
    """[class, start, stop] of a stage; infinite where it does not fit or is empty."""
    hop: Array
    """[class, class] between two different nodes; infinite without a link."""
    enter: Array
    """[class] from the coordinator, its own time included."""
    leave: Array
    """[class] back to the coordinator."""
    longest: bool
    """Whether parts combine by maximum instead of sum."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Which lines lie between classes; most of a large cluster's are alike."""

    kinds: tuple[Link | None, ...]
    """The last one stands for no line at all."""
    hop: Kinds
    enter: Kinds
    leave: Kinds


def lines(problem: Problem, classes: tuple[NodeClass, ...]) -> Lines:
    """The lines between all classes, and to and from the coordinator."""
    cluster, home = problem.cluster, problem.cluster.coordinator
    known: dict[object, int] = {}
    kinds: list[Link | None] = []

    def kind(src: str, dst: str) -> int:
        if not cluster.connected(src, dst):
            return -1
        link = cluster.link(src, dst)
        key = link and tuple(value for name, value in link if name not in ("src", "dst"))
        if key not in known:
            known[key] = len(kinds)
            kinds.append(link)
        return known[key]

    def between(a: NodeClass, b: NodeClass) -> int:
        other = b.nodes[1] if a is b and len(b.nodes) > 1 else b.example
        return -1 if other == a.example else kind(a.example, other)

    return Lines(
        hop=np.array([[between(a, b) for b in classes] for a in classes]),
        enter=np.array([kind(home, entry.example) for entry in classes]),
        leave=np.array([kind(entry.example, home) for entry in classes]),
        kinds=(*kinds, None),
    )


def criteria(
    problem: Problem,
    classes: tuple[NodeClass, ...],
    quant: QuantScheme,
    load: Load,
    between: Lines | None = None,
) -> list[Criterion]:
    """Prompt, gap between prompts, decode at each batch, and the gap of decode if groups need it.

    The order is that of the fields of ``Steps``.
    """
    between = between or lines(problem, classes)
    room = _fits(problem, classes, quant, load.seats)
    prefill = Batch.prefill(load.prompt_tokens)

    def once(time_s: Callable[[Batch], float]) -> float:
        return time_s(prefill)

    result = [
        _criterion(problem, classes, quant, room, between, once, longest=False),
        _criterion(problem, classes, quant, room, between, once, longest=True),
    ]
    kinds = (False, True) if load.groups > 1 else (False,)
    for longest in kinds:
        for batch in load.batches:

            def steps(time_s: Callable[[Batch], float], batch: float = batch) -> float:
                return over_steps(lambda step: time_s(decode_batch(load, batch, step)), load.steps)

            result.append(_criterion(problem, classes, quant, room, between, steps, longest))
    return result


def _fits(
    problem: Problem, classes: tuple[NodeClass, ...], quant: QuantScheme, seats: int
) -> Array:
    """[class, start, stop]: 0 where a stage fits, infinite where it does not."""
    layers = problem.model.num_hidden_layers
    middle = np.zeros(layers + 1)
    empty = needs(problem, 0, 1, quant.id, seats)
    for index in range(layers):
        alone = _without_ends(problem, quant, index, seats)
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
    inside = needs(problem, 0, 1, quant.id, seats).activation_bytes
    last = needs(problem, layers - 1, layers, quant.id, seats).activation_bytes
    inside_only = inside if layers > 1 else last
    ends += inside_only
    ends[:, layers] += last - inside_only
    total = spans + ends
    blocked = np.tril(np.ones((layers + 1, layers + 1), dtype=bool))
    tables = []
    for entry in classes:
        bad = blocked | (total > capacity_bytes(problem, entry.example) * (1 + 1e-12))
        tables.append(np.where(bad, np.inf, 0.0))
    return np.stack(tables)


def _without_ends(problem: Problem, quant: QuantScheme, index: int, seats: int) -> float:
    """Bytes of one layer's weights and cache."""
    memory = needs(problem, index, index + 1, quant.id, seats)
    weights = memory.weights_bytes
    if index == 0:
        weights -= problem.model.embedding_params * quant.embedding_bits / 8
    last = index == problem.model.num_hidden_layers - 1
    if last and not (index == 0 and problem.model.tie_word_embeddings):
        weights -= problem.model.head_params * quant.head_bits / 8
    return weights + memory.kv_bytes


Over = Callable[[Callable[[Batch], float]], float]
"""Turns the time of a batch into the time of all batches that a criterion covers."""


def _criterion(
    problem: Problem,
    classes: tuple[NodeClass, ...],
    quant: QuantScheme,
    room: Array,
    between: Lines,
    over: Over,
    longest: bool,
) -> Criterion:
    alike: dict[tuple[object, ...], Array] = {}
    for entry in classes:
        node = problem.cluster.node(entry.example)
        kind = (node.device, node.count, node.host)
        if kind not in alike:
            alike[kind] = _stage_table(problem, quant, chip(problem, node.id), over)
    kinds = [problem.cluster.node(entry.example) for entry in classes]
    stage = np.stack([alike[node.device, node.count, node.host] for node in kinds])
    path = problem.serving.return_path

    def messages_s(kinds: Kinds, payload: Callable[[Batch], float]) -> Array:
        def one(link: Link | None) -> float:
            def seconds(batch: Batch) -> float:
                moved = transfer_time(link, payload(batch), problem.engine, batch.phase)
                return moved.busy_s if longest else moved.total_s

            return over(seconds)

        return np.array([*map(one, between.kinds[:-1]), np.inf])[kinds]

    def hidden(batch: Batch) -> float:
        return hidden_payload_bytes(problem.model, quant, batch.new_tokens)

    def answer(batch: Batch) -> float:
        return token_payload_bytes(batch.sampled_tokens)

    def both(there_s: Array, back_s: Array) -> Array:
        joined: Array = np.maximum(there_s, back_s) if longest else there_s + back_s
        return joined

    own_s = np.array(over(lambda batch: coordinator_s(problem, batch)))
    inward_s = messages_s(between.enter, lambda batch: token_payload_bytes(batch.new_tokens))
    enter, leave = both(own_s, inward_s), messages_s(between.leave, answer)
    hop = messages_s(between.hop, hidden)
    if path == "star":
        up_s, down_s = messages_s(between.leave, hidden), messages_s(between.enter, hidden)
        hop = both(up_s[:, None], down_s[None, :])
    elif path == "relayed":
        enter, leave = both(enter, leave), np.zeros_like(leave)
        hop = both(hop, messages_s(between.hop.T, answer))
    return Criterion(stage + room, hop, enter, leave, longest)


def _stage_table(problem: Problem, quant: QuantScheme, chip: Chip, over: Over) -> Array:
    """[start, stop] seconds of a stage: prefix sums over layers, ends and fixed overhead."""
    model, calibration = problem.model, chip.calibration
    by_layer: dict[int, float] = {}
    prefix = np.zeros(model.num_hidden_layers + 1)

    def one_layer(layer: Layer) -> float:
        return over(lambda batch: layer_time(model, layer, quant, chip, batch).total_s)

    for index, layer in enumerate(model.layers):
        if id(layer) not in by_layer:
            by_layer[id(layer)] = one_layer(layer)
        prefix[index + 1] = prefix[index] + by_layer[id(layer)]
    table = prefix[None, :] - prefix[:, None]
    whole = table[0, -1]
    table += over(lambda batch: fixed_s(calibration, batch, alone=False))
    table[0, -1] = whole + over(lambda batch: fixed_s(calibration, batch, alone=True))
    table[0, :] += over(lambda batch: embedding_time(model, quant, chip, batch).total_s)
    table[:, -1] += over(lambda batch: head_time(model, quant, chip, batch).total_s)
    return table
