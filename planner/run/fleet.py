"""Fleet: the worker processes of a plan, connected hop to hop, and their end."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from planner.core.cluster import Cluster
from planner.core.cost.transfer import stream_bytes_per_s
from planner.core.errors import FileProblem, InvalidFileError, RunError
from planner.core.plan import Plan, Stage
from planner.core.rng import stream
from planner.run.frames import PeerLostError, control, encode, read_control, send_all
from planner.run.places import Here, Place, Process
from planner.run.steps import Step
from planner.run.transport import Channel, LinkShape, Listener, connect

_START_S = 300.0
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How the workers of a fleet run."""

    checkpoint: Path
    slot_tokens: int
    """Tokens that one seat's cache holds."""
    threads: int
    """Compute threads of each worker."""
    device: str = "cpu"
    seed: int = 0
    imitate_links: bool = True
    """Whether messages are held back as the cluster's links would."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process and the stage it holds."""

    pipeline: int
    stage: Stage
    place: Place
    process: Process
    port: int = 0
    weight_bytes: int = 0
    cache_bytes: int = 0
    kernels: dict[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> socket.socket:
        """Where its orders go and its answers come from."""
        return self.process.control


@dataclass(frozen=True, slots=True)
class Line:
    """The coordinator's two ends of a pipeline."""

    channel: Channel
    tokens: socket.socket


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
        self.lines: list[Line] = []
        self.slot_tokens = settings.slot_tokens
        self.jobs_sent = 0
        self._cluster, self._plan, self._settings = cluster, plan, settings
        self._secret = secrets.token_hex(16)
        self._listener = Listener(self._secret)
        self._home = Here()
        self._places = dict.fromkeys(plan.nodes, self._home) if places is None else places

    def __enter__(self) -> Fleet:
        try:
            self._spawn()
            self._load()
            self._connect()
        except TimeoutError:
            self._end(patience_s=0.0)
            raise RunError("a worker did not connect in time") from None
        except BaseException:
            self._end(patience_s=0.0)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end(patience_s=_STOP_S if kind is None else 0.0)

    def steps(self) -> list[list[Step]]:
        """What every worker did so far, by worker."""
        reports = [self._ask(worker, {"report": True})["steps"] for worker in self.workers]
        return [[Step(*step) for step in report] for report in reports]

    def raise_failure(self, worker: Worker) -> None:
        """Raises what a worker reports, or that it is gone."""
        self._hear(worker)
        raise RunError(f"the worker of {_title(worker)} said something out of turn")

    def explain(self, error: PeerLostError) -> RunError:
        """Which worker's end broke a connection; the error itself if all are alive."""
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            for worker in self.workers:
                if worker.process.ended():
                    return self._death(worker)
            time.sleep(0.01)
        return error

    def _spawn(self) -> None:
        """Starts all processes, each waiting for its orders."""
        for index, pipeline in enumerate(self._plan.pipelines):
            for stage in pipeline.stages:
                place = self._places[stage.node]
                process = place.start(self._settings.threads)
                self.workers.append(Worker(index, stage, place, process))

    def _load(self) -> None:
        """Has every worker load its stage.

        The first one of each scheme on a host lets the kernels race before the others start,
        undisturbed; all others there take its choice.
        """
        chosen: dict[tuple[str, str], dict[str, Any]] = {}
        later = []
        for worker in self.workers:
            kind = worker.place.host, worker.stage.quant
            if kind in chosen:
                later.append(worker)
            else:
                self._tell(worker, {"load": self._order(worker, None)})
                chosen[kind] = self._loaded(worker)
        for worker in later:
            kernels = chosen[worker.place.host, worker.stage.quant]
            self._tell(worker, {"load": self._order(worker, kernels)})
        for worker in later:
            self._loaded(worker)

    def _order(self, worker: Worker, kernels: dict[str, Any] | None) -> dict[str, Any]:
        settings, stage = self._settings, worker.stage
        return {
            "checkpoint": str(settings.checkpoint),
            "start": stage.start,
            "stop": stage.stop,
            "quant": stage.quant,
            "slots": self._plan.pipelines[worker.pipeline].max_num_seqs,
            "slot_tokens": settings.slot_tokens,
            "threads": settings.threads,
            "device": settings.device,
            "kernels": kernels,
            "secret": self._secret,
        }

    def _loaded(self, worker: Worker) -> dict[str, Any]:
        """Notes what a worker says about its stage; returns its kernels."""
        said = self._hear(worker)
        worker.port, worker.kernels = said["port"], said["kernels"]
        worker.weight_bytes, worker.cache_bytes = said["weight_bytes"], said["cache_bytes"]
        return worker.kernels

    def _connect(self) -> None:
        """Connects every hop: coordinator, stages in order, coordinator."""
        for index, pipeline in enumerate(self._plan.pipelines):
            mine = [worker for worker in self.workers if worker.pipeline == index]
            home = self._cluster.coordinator
            route = [*pipeline.nodes, home]
            ends = [(worker.place, worker.port) for worker in mine[1:]]
            ends.append((self._home, self._listener.port))
            for worker, (src, dst), end in zip(mine, pairwise(route), ends, strict=True):
                port = worker.place.port_to(*end)
                shape = self._shape(src, dst)
                link = asdict(shape) if shape else None
                order = {"port": port, "name": f"tokens {index}", "link": link}
                self._tell(worker, {"connect": order})
            port = self._home.port_to(mine[0].place, mine[0].port)
            into = connect(port, self._secret, "coordinator")
            channel = Channel(into, self._shape(home, pipeline.nodes[0]))
            for worker in mine:
                self._hear(worker)
            tokens, _ = self._listener.accept(timeout_s=_STOP_S)
            self.lines.append(Line(channel, tokens))

    def _shape(self, src: str, dst: str) -> LinkShape | None:
        """The link of the cluster to be imitated between two processes of this host."""
        link = self._cluster.link(src, dst)
        if link is None or not self._settings.imitate_links:
            return None
        seed = stream(self._settings.seed, "link", src, dst).getrandbits(62)
        return LinkShape(
            link.one_way_latency_s,
            stream_bytes_per_s(link),
            link.jitter_s,
            seed,
            link.relay_s,
            link.initial_window_bytes,
        )

    def _ask(self, worker: Worker, message: dict[str, Any]) -> dict[str, Any]:
        self._tell(worker, message)
        return self._hear(worker)

    def _tell(self, worker: Worker, message: dict[str, Any]) -> None:
        try:
            send_all(worker.control, encode(control(message)))
        except PeerLostError:
            self._hear(worker)  # it may have said why before it went

    def _hear(self, worker: Worker) -> dict[str, Any]:
        """The next message of a worker; raises the error that it reports, or its death."""
        worker.control.settimeout(_START_S)
        try:
            message = read_control(worker.control)
        except PeerLostError:
            raise self._death(worker) from None
        if "error" not in message:
            return message
        error = message["error"]
        if error["problems"]:
            raise InvalidFileError([FileProblem(*p) for p in error["problems"]], error["hint"])
        raise RunError(f"the worker of {_title(worker)} failed: {error['message']}", error["hint"])

    def _death(self, worker: Worker) -> RunError:
        worker.process.ended(patience_s=1.0)
        why = worker.process.last_words()
        return RunError(f"the worker of {_title(worker)} is gone{', ' if why else ''}{why}")

    def _end(self, patience_s: float) -> None:
        """Asks workers to stop, and kills those that have not after ``patience_s``."""
        for worker in self.workers:
            with contextlib.suppress(PeerLostError):
                send_all(worker.control, encode(control({"stop": True})))
        deadline_s = time.monotonic() + patience_s
        for worker in self.workers:
            if not worker.process.ended(max(0.0, deadline_s - time.monotonic())):
                worker.process.kill()
            worker.process.close()
        for line in self.lines:
            line.channel.close()
            line.tokens.close()
        self._listener.close()


def _title(worker: Worker) -> str:
    stage = worker.stage
    return f"{stage.node} (layers {stage.start} to {stage.stop - 1})"
