"""Costs: what stages and hops of each node class contribute to the times of a pipeline.

A criterion is a number that a pipeline's metrics grow with: the seconds of a prompt, of all decode
steps at some batch, or the longest busy time of any stage or line. The first two are sums over
stages and hops, the last a maximum; all are arrays over layer ranges, because stage times are
sums over layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from planner.core.cluster import Link
from planner.core.cost import Batch, chip, hidden_payload_bytes, transfer_time
from planner.core.cost.compute import (
    Chip,
    chunked_s,
    embedding_time,
    fixed_s,
    head_time,
    layer_time,
    overlapped,
)
from planner.core.cost.transfer import token_payload_bytes
from planner.core.cost.traversal import coordinator_s
from planner.core.model import Layer
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.plan.classes import NodeClass
from planner.plan.fits import fits
from planner.plan.load import Load
from planner.plan.prompt import Prompt
from planner.plan.room import capacity_bytes
from planner.plan.times import decode_batch, over_steps
from planner.plan.ways import Cut, Way

Array = NDArray[np.float64]
Kinds = NDArray[np.int64]
"""Numbers of lines, kinds, groups or classes; -1 for a line where there is none."""
Join = np.ufunc
"""How parts of a pipeline combine: np.add or np.maximum."""


@dataclass(frozen=True)
class Criterion:
    """One number of a pipeline, by what each part adds to it."""

    table: Array
    """[kind, start, stop] of a stage; infinite where it does not fit or is empty."""
    kinds: Kinds
    """[way] -> kind: ways of one kind differ in links and prices alone."""
    hop: Array
    """[way, way] between two different nodes; infinite without a link."""
    enter: Array
    """[way] from the coordinator, its own time included."""
    leave: Array
    """[way] back to the coordinator."""
    longest: bool
    """Whether parts combine by maximum instead of sum."""
    rent: Array | None = None
    """[way] that a stage adds whatever its layers; none where absent."""

    @property
    def join(self) -> Join:
        """How parts combine."""
        return np.maximum if self.longest else np.add

    @property
    def values(self) -> Array:
        """Every finite part, rising."""
        parts = [part.ravel() for part in (self.table, self.hop, self.enter, self.leave)]
        every = np.unique(np.concatenate(parts))
        return every[np.isfinite(every)]

    @cached_property
    def stage(self) -> Array:
        """[way, start, stop] of a stage: what the exact search reads, for few ways."""
        each: Array = self.table[self.kinds]
        return each if self.rent is None else each + self.rent[:, None, None]

    def of(self, cuts: Sequence[Cut]) -> float:
        """The number of one pipeline."""
        ways, starts, stops = (list(each) for each in zip(*cuts, strict=True))
        parts = [self.enter[ways[0]], self.leave[ways[-1]]]
        parts += self.table[self.kinds[ways], starts, stops].tolist()
        if self.rent is not None:
            parts += self.rent[ways].tolist()
        parts += self.hop[ways[:-1], ways[1:]].tolist()
        return float(max(parts) if self.longest else sum(parts))


@dataclass(frozen=True, slots=True)
class Lines:
    """Which lines lie between classes; most of a large cluster's are alike."""

    kinds: tuple[Link | None, ...]
    """The last one stands for no line at all."""
    hop: Kinds
    enter: Kinds
    """[seat, class] from every place where the coordinator may sit."""
    leave: Kinds
    """[seat, class] back to it."""
    groups: Kinds
    """[class] -> group: classes of one group have the same lines to and from everybody else."""


def lines(problem: Problem, classes: tuple[NodeClass, ...]) -> Lines:
    """The lines between all classes, and to and from the coordinator."""
    cluster, homes = problem.cluster, problem.cluster.seats
    known: dict[object, int] = {}
    kinds: list[Link | None] = []

    named = {end for link in cluster.links for end in (link.src, link.dst)}
    found: dict[object, int] = {}

    def like(name: str) -> object:
        """What the lines of a node depend on."""
        node = cluster.node(name)
        alike = node.region, node.uplink_bytes_per_s, node.downlink_bytes_per_s
        return name if name in named else alike

    ends = {name: like(name) for name in (*homes, *(node for one in classes for node in one.nodes))}

    def kind(src: str, dst: str) -> int:
        pair = ends[src], ends[dst], src == dst
        if pair not in found:
            found[pair] = resolved(src, dst)
        return found[pair]

    def resolved(src: str, dst: str) -> int:
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

    hop = np.array([[between(a, b) for b in classes] for a in classes])
    enter = np.array([[kind(home, entry.example) for entry in classes] for home in homes])
    leave = np.array([[kind(entry.example, home) for entry in classes] for home in homes])
    return Lines((*kinds, None), hop, enter, leave, _alike(hop, enter, leave))


def _alike(hop: Kinds, enter: Kinds, leave: Kinds) -> Kinds:
    """[class] -> group of classes that could be swapped as far as lines go.

    All hops within a group are then of one kind; a class of one node has none to itself.
    """
    classes = len(hop)
    groups, firsts = np.zeros(classes, dtype=np.int64), list[int]()
    for one in range(classes):
        for group, other in enumerate(firsts):
            rows, columns = hop[one] == hop[other], hop[:, one] == hop[:, other]
            inner = hop[one, other]
            rows[[one, other]] = columns[[one, other]] = True
            selves = all(hop[each, each] in (-1, inner) for each in (one, other))
            ends = (enter[:, one] == enter[:, other]) & (leave[:, one] == leave[:, other])
            every = rows.all() and columns.all() and ends.all()
            if every and selves and hop[other, one] == inner:
                groups[one] = group
                break
        else:
            groups[one] = len(firsts)
            firsts.append(one)
    return groups


def criteria(
    problem: Problem,
    classes: tuple[NodeClass, ...],
    ways: tuple[Way, ...],
    load: Load,
    between: Lines | None = None,
) -> list[Criterion]:
    """Prompt, gap between prompts, decode at each batch, and the gap of decode if groups need it.

    The order is that of the fields of ``Steps``, but for prompts that overlap with themselves.
    """
    between = between or lines(problem, classes)
    kinds, machines = _kinds(problem, classes, ways)
    room = np.stack([fits(problem, name, way, load.seats) for name, way in machines])
    prompt = Prompt.of(problem, load)

    def made(over: Over, longest: bool, sent: Over | None = None) -> Criterion:
        tables = [
            _stage_table(problem, way.quant, chip(problem, name, way.split), over)
            for name, way in machines
        ]
        messages = _messages(problem, ways, between, sent or over, longest)
        return Criterion(np.stack(tables) + room, kinds, *messages, longest)

    result = [made(prompt.least, longest=False), made(prompt.all, True, prompt.sent)]
    for longest in (False, True) if load.groups > 1 else (False,):
        for batch in load.batches:

            def steps(time_s: Callable[[Batch], float], batch: float = batch) -> float:
                return over_steps(lambda step: time_s(decode_batch(load, batch, step)), load.steps)

            result.append(made(steps, longest))
    return result


def _kinds(
    problem: Problem, classes: tuple[NodeClass, ...], ways: tuple[Way, ...]
) -> tuple[Kinds, list[tuple[str, Way]]]:
    """[way] -> kind of machine and its use, and for each kind a node and a way."""
    known: dict[tuple[object, ...], int] = {}
    kinds, machines = [], list[tuple[str, Way]]()
    for way in ways:
        node = problem.cluster.node(classes[way.owner].example)
        room_bytes = capacity_bytes(problem, node.id)
        key = node.device, node.count, room_bytes, way.quant.id, way.split
        if key not in known:
            known[key] = len(machines)
            machines.append((node.id, way))
        kinds.append(known[key])
    return np.array(kinds), machines


Over = Callable[[Callable[[Batch], float]], float]
"""Turns the time of a batch into the time of all batches that a criterion covers."""


def _messages(
    problem: Problem, ways: tuple[Way, ...], between: Lines, over: Over, longest: bool
) -> tuple[Array, Array, Array]:
    """What hops between stages, the way in and the way back add to a criterion.

    Where the coordinator may sit at several places, each at the best one for it.
    """
    owners, path = np.array([way.owner for way in ways]), problem.serving.return_path

    def messages_s(kinds: Kinds, payload: Callable[[Batch], float]) -> Array:
        def one(link: Link | None) -> float:
            def seconds(batch: Batch) -> float:
                phase = "decode" if batch.silent else batch.carried  # no slow start behind others
                moved = transfer_time(link, payload(batch), problem.engine, phase)
                return moved.busy_s if longest else moved.total_s

            return over(seconds)

        met, place = np.unique(kinds, return_inverse=True)
        times = [np.inf if kind < 0 else one(between.kinds[kind]) for kind in met]
        return np.array(times)[place.reshape(kinds.shape)]

    def answer(batch: Batch) -> float:
        return token_payload_bytes(batch.sampled_tokens)

    def both(there_s: Array, back_s: Array) -> Array:
        joined: Array = np.maximum(there_s, back_s) if longest else there_s + back_s
        return joined

    def onward_s(quant: QuantScheme) -> Array:
        """[class, class] of hidden states that leave a stage of that quantization."""

        def hidden(batch: Batch) -> float:
            return hidden_payload_bytes(problem.model, quant, batch.new_tokens)

        if path == "star":
            up_s, down_s = messages_s(between.leave, hidden), messages_s(between.enter, hidden)
            each = (both(up[:, None], down) for up, down in zip(up_s, down_s, strict=True))
            return reduce(np.minimum, each)
        there_s = messages_s(between.hop, hidden)
        return both(there_s, messages_s(between.hop.T, answer)) if path == "relayed" else there_s

    own_s = np.array(over(lambda batch: coordinator_s(problem, batch)))
    inward_s = messages_s(between.enter, lambda batch: token_payload_bytes(batch.new_tokens))
    enter, leave = both(own_s, inward_s), messages_s(between.leave, answer)
    if path == "relayed":
        enter, leave = both(enter, leave), np.zeros_like(leave)
    enter, leave = enter.min(axis=0), leave.min(axis=0)
    schemes = {way.quant.wire_bits: way.quant for way in ways}
    sent = {bits: onward_s(quant) for bits, quant in schemes.items()}
    hop = np.stack([sent[way.quant.wire_bits][way.owner, owners] for way in ways])
    return hop, enter[owners], leave[owners]


def _stage_table(problem: Problem, quant: QuantScheme, chip: Chip, over: Over) -> Array:
    """[start, stop] seconds of a stage: prefix sums over layers, ends and fixed overhead."""
    model, calibration = problem.model, chip.calibration
    by_layer: dict[int, float] = {}
    prefix = np.zeros(model.num_hidden_layers + 1)

    def seconds(time_s: Callable[[Batch], float]) -> float:
        return over(lambda batch: chunked_s(chip, batch, time_s))

    def share(layers: int) -> float:
        """Of the work in a row, that a stage of so many layers takes; all of it in decode."""
        taken = over(lambda batch: overlapped(quant, chip, batch, max(1, layers)))
        return taken / (over(lambda _: 1.0) or 1.0)

    def one_layer(layer: Layer) -> float:
        return seconds(lambda batch: layer_time(model, layer, quant, chip, batch).total_s)

    for index, layer in enumerate(model.layers):
        if id(layer) not in by_layer:
            by_layer[id(layer)] = one_layer(layer)
        prefix[index + 1] = prefix[index] + by_layer[id(layer)]
    table = prefix[None, :] - prefix[:, None]
    whole = table[0, -1]
    table += seconds(lambda batch: fixed_s(calibration, batch, alone=False))
    table[0, -1] = whole + seconds(lambda batch: fixed_s(calibration, batch, alone=True))
    table[0, :] += seconds(
        lambda batch: embedding_time(model, quant, chip, batch.new_tokens).total_s
    )
    table[:, -1] += seconds(lambda batch: head_time(model, quant, chip, batch).total_s)
    if chip.count > chip.sharing:
        layers = np.arange(len(prefix))
        shares = np.array([share(held) for held in layers.tolist()])
        table *= shares[np.maximum(0, layers[None, :] - layers[:, None])]
    table += over(lambda _: chip.handover_s)
    return table


def rent(like: Criterion, usd_per_hour: Array) -> Criterion:
    """Rent as a sum over stages."""
    table = np.where(np.isfinite(like.table), 0.0, np.inf)
    free = np.zeros_like(like.enter)
    hop = np.where(np.isfinite(like.hop), 0.0, np.inf)
    return Criterion(table, like.kinds, hop, free, free, longest=False, rent=usd_per_hour)
