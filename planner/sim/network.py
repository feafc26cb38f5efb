"""Network: the stages, links and the coordinator of a plan, each serving one thing at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from planner.core.cluster import Link
from planner.core.cost import Batch, Chip, chip
from planner.core.cost.batch import Phase
from planner.core.cost.joint import Terms, joint_time
from planner.core.cost.transfer import Carrier
from planner.core.cost.traversal import route
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.rng import generator
from planner.sim.access import Access, downlinks, uplinks
from planner.sim.server import Server as Server
from planner.sim.straight import Straight

_AT_ONCE = 256
"""Latencies that are drawn at a time."""


@dataclass(slots=True)
class Latency:
    """Draws of a normal latency, cut at 0, from the link's own stream."""

    link: Link
    draws: np.random.Generator
    unused: deque[float] = field(default_factory=deque)

    def __call__(self) -> float:
        """The latency of the next message (s)."""
        if not self.unused:
            mean_s, deviation_s = self.link.one_way_latency_s, self.link.jitter_s
            drawn_s = self.draws.normal(mean_s, deviation_s, _AT_ONCE)
            self.unused.extend(np.maximum(0.0, drawn_s).tolist())
        return self.unused.popleft()

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of a draw (s, s²): of a normal latency that is cut at 0."""
        mean_s, deviation_s = self.link.one_way_latency_s, self.link.jitter_s
        normal, at = NormalDist(), mean_s / deviation_s
        above, density = normal.cdf(at), normal.pdf(at)
        first = mean_s * above + deviation_s * density
        second = (mean_s**2 + deviation_s**2) * above + mean_s * deviation_s * density
        return first, second - first * first

    def give_back(self, latency_s: float) -> None:
        """Returns the draw of a message that was not sent, the latest one first."""
        self.unused.appendleft(latency_s)


@dataclass(slots=True)
class Wire:
    """A directed link: messages are serialised one by one, then overlap on their way."""

    src: str
    dst: str
    carriers: dict[Phase, Carrier]
    """What messages take, by the phase they belong to."""
    latency_s: Latency | None = None
    """Draws the one-way latency where it varies."""
    server: Server = field(default_factory=Server)
    last_s: float = 0.0
    """When the message before arrived: none overtakes another."""
    sent_bytes: float = 0.0
    weights_bytes: float = 0.0
    """Of these, weights that were loaded."""
    up: Access | None = None
    """The sender's uplink, where other wires use it, too."""
    down: Access | None = None
    """The receiver's downlink, where other wires use it, too."""
    first_s: float = 0.0
    """When the first byte of the latest message is there."""
    passed_s: float = 0.0
    """When the latest message that has passed the downlink has arrived."""

    def send(
        self,
        problem: Problem,
        now_s: float,
        payload_bytes: float,
        phase: Phase,
        before_bytes: float = 0.0,
    ) -> tuple[float, float]:
        """When a message handed over now begins to be sent, and when it has arrived (s).

        ``before_bytes`` of the same prompt go right before it. What is before it on the receiver's
        downlink is known only when its first byte is there.
        """
        moved = self.carriers[phase].transfer(payload_bytes, before_bytes)
        size_bytes = payload_bytes + problem.engine.frame_bytes
        passes_s = now_s if self.up is None else self.up.pass_on(now_s, size_bytes)[0]
        begin_s, sent_s = self.server.serve(now_s, moved.busy_s, passes_s)
        away_s = moved.propagate_s if self.latency_s is None else self.latency_s()
        self.first_s = max(self.first_s, begin_s + away_s)
        self.last_s = max(self.last_s, sent_s + away_s + moved.relay_s)
        self.sent_bytes += size_bytes
        return begin_s, self.last_s

    def receive(self, problem: Problem, now_s: float, payload_bytes: float, phase: Phase) -> float:
        """When a message whose first byte is there now has passed the downlink (s)."""
        assert self.down is not None
        _, passed_s = self.down.pass_on(now_s, payload_bytes + problem.engine.frame_bytes)
        self.passed_s = max(self.passed_s, passed_s + self.carriers[phase].relay_s)
        return self.passed_s


@dataclass(slots=True, eq=False)
class Host:
    """The cores that several workers share: as many compute at once as it has room for."""

    free: int
    """Workers that can still start."""
    waiting: deque[Worker] = field(default_factory=deque)
    """Workers with a job and no core, the longest waiting first."""

    def start_waiting(self, now_s: float) -> None:
        """Gives every free core to the worker that has waited longest for one."""
        while self.free and self.waiting:
            self.free -= 1
            self.waiting.popleft().begin(now_s)


Batches = tuple[Batch, ...]
"""What a step computes together."""

Started = Callable[[float, float], None]
"""Told when a step begins and ends (s)."""


@dataclass(slots=True, eq=False)
class Worker:
    """A stage on its node."""

    problem: Problem
    stage: Stage
    chip: Chip
    straight: Straight
    """What decode steps take, shared by all stages that are equal."""
    host: Host | None = None
    server: Server = field(default_factory=Server)
    line: deque[tuple[Batches, Started]] = field(default_factory=deque)
    """Jobs of a worker that shares its host: the one it computes, then those that wait."""
    known: dict[Batches, float] = field(default_factory=dict)
    lives: int = 0
    """How often its node was lost; what it computed before is of no use."""

    def compute(self, now_s: float, batches: Batches, started: Started) -> None:
        """Takes on a step that comes now; a core is asked for only once the stage is idle."""
        if self.host is None:
            started(*self.server.serve(now_s, self.step_s(batches)))
            return
        self.line.append((batches, started))
        if len(self.line) == 1:
            self.host.waiting.append(self)
            self.host.start_waiting(now_s)

    def begin(self, now_s: float) -> None:
        """Computes the first step in line on the core it was given."""
        batches, started = self.line[0]
        started(*self.server.serve(now_s, self.step_s(batches)))

    def end(self, now_s: float) -> None:
        """Gives the core back after a step."""
        if self.host is None:
            return
        self.line.popleft()
        self.host.free += 1
        if self.line:
            self.host.waiting.append(self)
        self.host.start_waiting(now_s)

    def lose(self, now_s: float) -> None:
        """Drops all its work because its node is gone."""
        self.lives += 1
        self.server.stop(now_s)
        if self.host is None:
            return
        if self in self.host.waiting:
            self.host.waiting.remove(self)
        elif self.line:
            self.host.free += 1
        self.line.clear()
        self.host.start_waiting(now_s)

    def step_s(self, batches: Batches) -> float:
        """Seconds of one step; equal ones are asked for once."""
        seconds = self.known.get(batches)
        if seconds is None:
            seconds = self.known[batches] = self.time_s(*batches)
        return seconds

    def time_s(self, *batches: Batch) -> float:
        """Seconds of one step, as the cost model says."""
        stage, problem = self.stage, self.problem
        quant = problem.quant(stage.quant)
        return joint_time(
            problem.model, stage.start, stage.stop, quant, self.chip, *batches
        ).total_s


@dataclass(slots=True)
class Network:
    """Everything that can be busy in one run."""

    problem: Problem
    seed: int
    coordinator: Server = field(default_factory=Server)
    wires: dict[tuple[str, str], Wire] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    """What every node that ever held a stage computed."""
    hosts: dict[str, Host] = field(default_factory=dict)
    pipelines: list[list[Worker]] = field(default_factory=list)
    repeated_s: dict[str, float] = field(default_factory=dict)
    """How long each node computed what it had computed before."""
    drafted_s: float = 0.0
    """Of what the coordinator took on, drafts."""
    routes: list[list[Wire]] = field(default_factory=list)
    """By pipeline: coordinator to first stage, between stages, back to the coordinator."""
    straights: dict[Hashable, Straight] = field(default_factory=dict)
    """By kind of stage."""
    uplinks: dict[str, Access] = field(default_factory=dict)
    """By node: those that several hops share."""
    downlinks: dict[str, Access] = field(default_factory=dict)

    def worker(self, stage: Stage) -> Worker:
        """A worker for a stage, on its node's one server."""
        server = self.servers.setdefault(stage.node, Server())
        device = chip(self.problem, stage.node, stage.split)
        straight = self._straight(stage, device)
        return Worker(self.problem, stage, device, straight, self._host(stage.node), server)

    def _straight(self, stage: Stage, chip: Chip) -> Straight:
        kind = (chip.device.id, chip.count, chip.split, stage.start, stage.stop, stage.quant)
        if kind not in self.straights:
            model, quant = self.problem.model, self.problem.quant(stage.quant)
            self.straights[kind] = Straight(Terms(model, stage.start, stage.stop, quant, chip))
        return self.straights[kind]

    def hand_over(self, index: int, stage: int, node: str) -> Worker:
        """Gives a stage to another node; raises LookupError where it has no link."""
        workers = self.pipelines[index]
        stages = [worker.stage for worker in workers]
        stages[stage] = stages[stage].model_copy(update={"node": node})
        self.routes[index] = self._route(Pipeline(stages=tuple(stages)))
        workers[stage] = self.worker(stages[stage])
        return workers[stage]

    def wire(self, src: str, dst: str) -> Wire:
        """The one wire between two nodes, shared by all pipelines that use it."""
        if (src, dst) not in self.wires:
            link = self.problem.cluster.link(src, dst)
            engine = self.problem.engine
            carriers: dict[Phase, Carrier] = {
                "prefill": Carrier.of(link, engine, "prefill"),
                "decode": Carrier.of(link, engine, "decode"),
            }
            wire = Wire(src, dst, carriers, _latency(link, self.seed))
            if link is not None:
                wire.up, wire.down = self.uplinks.get(src), self.downlinks.get(dst)
            self.wires[src, dst] = wire
        return self.wires[src, dst]

    def add(self, pipeline: Pipeline) -> None:
        """Puts the stages of a pipeline on their nodes."""
        self.pipelines.append([self.worker(stage) for stage in pipeline.stages])
        self.routes.append(self._route(pipeline))

    def _route(self, pipeline: Pipeline) -> list[Wire]:
        return [self.wire(*ends) for ends in route(self.problem, pipeline.nodes)]

    def _host(self, node: str) -> Host | None:
        """The host a node shares with others; None for a machine of its own."""
        name = self.problem.cluster.node(node).host
        at_once = self.problem.cluster.device(node).workers_at_once
        if not name or at_once is None:
            return None
        return self.hosts.setdefault(name, Host(at_once))


def build(problem: Problem, plan: Plan, seed: int) -> Network:
    """The idle network of a plan; raises LookupError where a hop has no link."""
    network = Network(problem, seed)
    network.uplinks = uplinks(problem, plan)
    network.downlinks = downlinks(problem, plan)
    for pipeline in plan.pipelines:
        network.add(pipeline)
    return network


def _latency(link: Link | None, seed: int) -> Latency | None:
    """The draws of a link's latency; None where it is fixed."""
    if link is None or not link.jitter_s:
        return None
    return Latency(link, generator(seed, "jitter", link.src, link.dst))
