"""Fleet: the worker processes of a plan, connected hop to hop, and their end."""

from __future__ import annotations

import itertools
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any

from planner.core.cluster import Cluster
from planner.core.cost.transfer import stream_bytes_per_s
from planner.core.drift import Speeds
from planner.core.errors import RunError
from planner.core.plan import Plan, Stage
from planner.core.rng import stream
from planner.run.crew import START_S, Post, Worker, WorkerLostError
from planner.run.depot import Depot
from planner.run.frames import PeerLostError
from planner.run.outlet import Line, Outlet
from planner.run.places import Here, Place, UnreachableError
from planner.run.settings import Settings
from planner.run.transport import Channel, LinkShape, Listener, connect

if TYPE_CHECKING:
    from planner.run.inspection import Inspection

_STOP_S = 5.0
_CALL_AGAIN_S = 0.5
"""After which a node that did not answer is called again."""


class Fleet:
    """Starts on entering and leaves no process behind on exit, whatever happens between."""

    def __init__(
        self,
        cluster: Cluster,
        plan: Plan,
        settings: Settings,
        places: Mapping[str, Place] | None = None,
    ) -> None:
        self.workers: list[Worker] = []
        """All that were started and are not lost."""
        self.holders: dict[Post, Worker] = {}
        """Who serves each stage."""
        self.lines: list[Line] = []
        self.speeds: dict[str, Speeds] = {}
        """What each node was found to reach at the start, where that was asked for."""
        self.slot_tokens = settings.slot_tokens
        self.jobs_sent = 0
        self.plan = plan
        self.inspection: Inspection | None = None
        """Verifies the work, where that is asked for."""
        self._cluster, self.settings = cluster, settings
        self.secret, self.depot, self.home = secrets.token_hex(16), Depot(self), cluster.coordinator
        self._home = Here()
        self._places = places
        self.spawned: list[Worker] = []
        """All that were ever started."""
        self.kernels: dict[tuple[str, str], dict[str, Any]] = {}
        """Kernels that won the race, by host and quantization."""
        self._epochs = itertools.count(1)
        self._lock = threading.Lock()

    def __enter__(self) -> Fleet:
        try:
            self._start()
            for index in range(len(self.plan.pipelines)):
                self.lines.append(Line(Outlet(), Listener(self.secret)))
                self.connect(index, START_S)
        except TimeoutError:
            self._end(patience_s=0.0)
            raise RunError("a worker did not connect in time") from None
        except BaseException:
            self._end(patience_s=0.0)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end(patience_s=_STOP_S if kind is None else 0.0)

    def stage(self, post: Post) -> Stage:
        """What the plan puts there."""
        return self.plan.pipelines[post[0]].stages[post[1]]

    def stages_of(self, index: int) -> list[Worker]:
        """Who serves the stages of a pipeline, in order."""
        return [
            self.holders[index, stage] for stage in range(len(self.plan.pipelines[index].stages))
        ]

    def _start(self) -> None:
        """Has a worker on every node of the plan, holding what it should.

        The first one of each quantization on a host lets the kernels race before the others
        load, undisturbed; all others there take its choice. Hosts do so side by side.
        """
        placed = {
            node: (index, stage)
            for index, pipeline in enumerate(self.plan.pipelines)
            for stage, node in enumerate(pipeline.nodes)
        }
        ready: dict[str, Post] = {}
        for standby in self.plan.standbys:
            if standby.state == "hot":
                ready.setdefault(standby.node, (standby.pipeline, standby.stage))
        nodes = dict.fromkeys([*placed, *(standby.node for standby in self.plan.standbys)])
        self.workers = [self.spawn(node) for node in nodes]
        wanted = {worker.node: worker for worker in self.workers}
        posts = ready | placed
        racing: dict[str, dict[str, Worker]] = {}
        later = []
        for node, post in posts.items():
            worker, quant = wanted[node], self.stage(post).quant
            if racing.setdefault(worker.place.host, {}).setdefault(quant, worker) is not worker:
                later.append(worker)
        for wave in zip_longest(*(each.values() for each in racing.values())):
            self._load_all([worker for worker in wave if worker], posts)
        self._load_all(later, posts)
        self.holders = {post: wanted[node] for node, post in placed.items()}
        if self.settings.gauge:
            self._gauge()

    def _load_all(self, workers: Sequence[Worker], posts: Mapping[str, Post]) -> None:
        """Has workers load their stages side by side."""
        for worker in workers:
            self._order(worker, posts[worker.node])
        for worker in workers:
            self._loaded(worker, posts[worker.node])

    def _gauge(self) -> None:
        """Asks one worker of each host, one after the other, what its processor reaches."""
        known: dict[str, Speeds] = {}
        for worker in self.workers:
            host = worker.place.host
            if host not in known:
                known[host] = Speeds(**worker.ask({"gauge": True}, "gauge", START_S)["gauge"])
            self.speeds[worker.node] = known[host]

    def speeds_here(self) -> Speeds | None:
        """What the coordinator's host was found to reach; None where no worker of it was asked."""
        here = (node for node in self.speeds if self.place(node).host == self._home.host)
        return next((self.speeds[node] for node in here), None)

    def place(self, node: str) -> Place:
        """Where a node is; what no place is known of is here."""
        return (self._places or {}).get(node, self._home)

    def spawn(self, node: str) -> Worker:
        """A new process on a node, waiting for its orders; raises RunError."""
        place = self.place(node)
        worker = Worker(node, place, place.start(self.settings.threads))
        if self.inspection is not None:
            worker.overheard = self.inspection.hear
        self.spawned.append(worker)
        return worker

    def respawn(self, node: str, given_up: Callable[[], bool]) -> Worker | None:
        """As ``spawn``, once the node answers; None where that is given up before."""
        while not given_up():
            try:
                return self.spawn(node)
            except RunError:
                time.sleep(_CALL_AGAIN_S)
        return None

    def enlist(self, worker: Worker) -> None:
        """Counts a worker that was spawned later among the others."""
        with self._lock:
            self.workers.append(worker)

    def load(self, worker: Worker, post: Post, silence_s: float | None = None) -> None:
        """Has a worker hold a stage; raises WorkerLostError, also where it hangs meanwhile."""
        self._order(worker, post)
        self._loaded(worker, post, silence_s)

    def _order(self, worker: Worker, post: Post) -> None:
        worker.post = worker.stage = None
        order = self.order(worker, post) | {
            "checkpoint": str(self.depot.checkpoint(worker.node, post)),
            "wire": self.settings.wires.get(self.stage(post).quant, "plain"),
            "slots": self.plan.pipelines[post[0]].max_num_seqs,
            "compiled": self.settings.compiled and not self.holders,  # a takeover cannot wait
            "secret": self.secret,
        }
        worker.tell({"load": order})

    def order(self, worker: Worker, post: Post) -> dict[str, Any]:
        """How a worker, or a verifier, is to hold a stage: with the kernels its host's race chose.

        The checkpoint is that of the coordinator.
        """
        settings, stage = self.settings, self.stage(post)
        return {
            "checkpoint": str(settings.checkpoint),
            "start": stage.start,
            "stop": stage.stop,
            "quant": stage.quant,
            "slot_tokens": settings.slot_tokens,
            "threads": settings.threads,
            "device": settings.device,
            "kernels": self.kernels.get((worker.place.host, stage.quant)),
        }

    def _loaded(self, worker: Worker, post: Post, silence_s: float | None = None) -> None:
        """Notes what a worker says about its stage."""
        said = worker.hear("port", START_S, silence_s)
        worker.post, worker.stage = post, self.stage(post)
        worker.port, worker.kernels = said["port"], said["kernels"]
        worker.load_s = said["load_s"]
        worker.weight_bytes, worker.cache_bytes = said["weight_bytes"], said["cache_bytes"]
        self.kernels.setdefault((worker.place.host, self.stage(post).quant), worker.kernels)
        if self.inspection is not None:
            self.inspection.swear(worker)

    def connect(self, index: int, timeout_s: float) -> None:
        """Connects every hop of a pipeline anew: coordinator, stages in order, coordinator.

        What is still under way on older connections is void. Raises WorkerLostError.
        """
        line, workers = self.lines[index], self.stages_of(index)
        line.epoch, fence = next(self._epochs), self.jobs_sent + 1
        if line.tokens is not None:
            line.tokens.close()
            line.tokens = None
        route = [worker.node for worker in workers] + [self._cluster.coordinator]
        ends = [(worker.place, worker.port) for worker in workers[1:]]
        ends.append((self._home, line.listener.port))
        for worker, (src, dst), end in zip(workers, pairwise(route), ends, strict=True):
            shape = self.shape(src, dst)
            order = {
                "port": self._way(workers, worker.place, *end),
                "secret": self.secret,
                "link": asdict(shape) if shape else None,
                "epoch": line.epoch,
                "fence": fence,
            }
            worker.tell({"connect": order})
        try:
            port = self._way(workers, self._home, workers[0].place, workers[0].port)
            line.jobs = connect(port, self.secret, str(line.epoch))
        except PeerLostError as error:
            raise WorkerLostError(workers[0], str(error)) from None
        channel = Channel(line.jobs, self.shape(self._cluster.coordinator, route[0]))
        line.outlet.lead(channel, fence, lambda: None)  # whoever waits at ``jobs`` sees it break
        for worker, following in zip(workers, [*workers[1:], None], strict=True):
            said: dict[str, Any] = {}
            while said.get("connected") != line.epoch:  # answers to earlier orders come first
                said = worker.hear("connected", timeout_s)
            if said["failure"]:
                raise WorkerLostError(following or worker, said["failure"])
        line.tokens = self._accept(line, workers[-1], timeout_s)

    def _way(self, workers: Sequence[Worker], place: Place, to: Place, port: int) -> int:
        """A port of a place that leads to another; raises WorkerLostError."""
        try:
            return place.port_to(to, port)
        except UnreachableError as error:
            lost = next(worker for worker in workers if worker.place.host == error.host)
            raise WorkerLostError(lost, error.message) from None

    def _accept(self, line: Line, last: Worker, timeout_s: float) -> socket.socket:
        """The connection that the last stage answers on."""
        until_s = time.monotonic() + timeout_s
        try:
            while True:
                tokens, name = line.listener.accept(max(1e-3, until_s - time.monotonic()))
                if name == str(line.epoch):
                    return tokens
                tokens.close()
        except TimeoutError:
            raise WorkerLostError(last, f"{last.title} did not connect in time") from None

    def shape(self, src: str, dst: str) -> LinkShape | None:
        """The link of the cluster to be imitated between two processes of this host."""
        link = self._cluster.link(src, dst)
        if link is None or not self.settings.imitate_links:
            return None
        seed = stream(self.settings.seed, "link", src, dst).getrandbits(62)
        return LinkShape(
            link.one_way_latency_s,
            stream_bytes_per_s(link),
            link.jitter_s,
            seed,
            link.relay_s,
            link.initial_window_bytes,
        )

    def fence_off(self, worker: Worker) -> None:
        """Makes sure that a worker does nothing any more: whoever is lost comes back as new."""
        with self._lock:
            worker.lost = True
            if worker in self.workers:
                self.workers.remove(worker)
        worker.process.kill()  # a hung process hears nothing less
        if self.inspection is not None:
            self.inspection.lost(worker)

    def explain(self, error: PeerLostError) -> RunError:
        """Which worker's end broke a connection; the error itself if all are alive."""
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            for worker in self.workers:
                if worker.process.ended():
                    return worker.death()
            time.sleep(0.01)
        return error

    def _end(self, patience_s: float) -> None:
        """Asks workers to stop, and kills those that have not after ``patience_s``."""
        for worker in self.workers:
            worker.tell({"stop": True})
        deadline_s = time.monotonic() + patience_s
        for worker in self.workers:
            worker.process.ended(max(0.0, deadline_s - time.monotonic()))
        for worker in self.spawned:
            if not worker.process.ended():
                worker.process.kill()
            worker.process.close()
        for line in self.lines:
            line.outlet.close()
            line.listener.close()
            if line.tokens is not None:
                line.tokens.close()
        self.depot.close()
