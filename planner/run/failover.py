"""Failover: notices lost workers and has others take over their stages.

The rules are the simulator's: the first node that is there and idle takes a stage, the one the
plan gave it to or one of its standbys in the order of the plan. It loads the weights if it does
not hold them. The stage before it sends the stored inputs of all seated sequences again, and
interrupted jobs are sent once more. A worker that was lost is ended for good; its node comes back
with a new one. See ``docs/life-of-a-request.md``.

The session's thread owns the states of pipelines: it alone begins a recovery, and a pipeline is
under recovery until it has read how that ended. What takes long is done on threads. Each of them
ends in an event, whatever happens to it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from planner.core.errors import PlannerError
from planner.run.background import Background
from planner.run.crew import Post, Worker, WorkerLostError
from planner.run.deadlines import Deadlines
from planner.run.fleet import Fleet
from planner.run.history import Cached
from planner.run.losses import (
    Absence,
    Back,
    Care,
    Event,
    Fault,
    Loss,
    Recovered,
    Stranded,
    Whole,
)
from planner.run.ready import ready
from planner.run.takeover import Takeover

_LOG = logging.getLogger(__name__)
_BEATS = 10
"""Signs of life that are asked for within the detection deadline."""
_MOST_FAILED_RETURNS = 3


@dataclass(slots=True, eq=False)
class Failover:
    """Who is lost and who takes over.

    Public members are for the session's thread, but for ``ban``. The lock guards what its threads
    share and is never held for long.
    """

    fleet: Fleet
    care: Care
    tell: Callable[[Event], None]
    deadlines: Deadlines = field(init=False)
    recoveries: list[Recovered] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    recovering: dict[int, int] = field(default_factory=dict)
    """Pipelines whose recovery has not been heard to end: how many nodes had returned before."""
    stranded: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Pipelines that wait for a node to come back: since when and why."""
    _struck_s: dict[str, float] = field(default_factory=dict)
    _away: set[str] = field(default_factory=set)
    """Nodes that stay away until their time has come."""
    _asked_s: dict[Worker, float] = field(default_factory=dict)
    """When each worker was last asked for a sign of life."""
    _coming: list[Worker] = field(default_factory=list)
    """Workers that are being started on nodes that come back."""
    _returned: int = 0
    """How many nodes were heard to come back so far."""
    _takeover: Takeover = field(init=False)
    _background: Background = field(init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.deadlines = Deadlines(self.fleet, self.care.problem)
        self._takeover = Takeover(self.fleet, self.care, self.deadlines, self._lock)
        self._background = Background(lambda error: self.tell(Fault(error)))

    def __enter__(self) -> Failover:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets nobody come back any more and waits for the threads."""
        with self._lock:
            self._background.closed = True
            coming = list(self._coming)
        for worker in coming:
            self.fleet.fence_off(worker)
        self._background.join()

    @property
    def period_s(self) -> float:
        """How often ``silent`` should be called."""
        return self.care.problem.serving.detect_s / _BEATS

    @property
    def watched(self) -> list[Worker]:
        """Workers whose messages nobody else waits for."""
        holders = self.fleet.holders.items()
        busy = {worker.node for (index, _), worker in holders if index in self.recovering}
        busy |= self._takeover.taking
        return [one for one in self.fleet.workers if one.node not in busy and not one.lost]

    def begin(self, start_s: float) -> None:
        """Starts the clock of the losses to rehearse."""
        for loss in self.care.losses:
            self._background.run(self._strike, loss, after_s=start_s + loss.at_s - time.monotonic())

    def listen(self, worker: Worker) -> int | None:
        """Hears a worker that nobody else waits for; the pipeline that it says is broken, or None.

        Hears nothing where a recovery has read what seemed to be there. Raises as ``Worker.hear``.
        """
        with self._lock:
            if worker not in self.watched or not ready([worker.control]):
                return None
            worker.listen()
            posts = [post for post, holder in self.fleet.holders.items() if holder is worker]
        return next((index for index, _ in posts if self._broken(worker, index)), None)

    def silent(self, now_s: float) -> list[Worker]:
        """Workers that do not answer in time or do not finish a step; asks the others again."""
        found, detect_s = [], self.care.problem.serving.detect_s
        with self._lock:
            for worker in self.watched:
                asked_s = self._asked_s.get(worker, 0.0)
                unanswered = asked_s > worker.heard_s
                late = unanswered and now_s - asked_s > detect_s and not ready([worker.control])
                if late or worker.busy_s > self.deadlines.step_s(worker):
                    found.append(worker)
                elif not unanswered:
                    self._asked_s[worker] = now_s
                    worker.beat()
        return found

    def hopeless(self, now_s: float) -> list[tuple[int, str]]:
        """Pipelines that have waited longer than requests have patience, and what to tell them."""
        patience_s = self.care.problem.serving.patience_s
        return [
            (index, f"{reason} within {patience_s:g} s")
            for index, (since_s, reason) in list(self.stranded.items())
            if now_s - since_s > patience_s
        ]

    def lose(self, worker: Worker, now_s: float) -> int | None:
        """Ends a lost worker; the pipeline that lost a stage by it, or None.

        Recoveries call it as well, for workers that nobody else listens to meanwhile.
        """
        with self._lock:
            if worker.lost:
                return None
            self._asked_s.pop(worker, None)
            since_s = self._struck_s.pop(worker.node, worker.heard_s or now_s)
            self.absences.append(Absence(worker.node, since_s, math.inf))
            index = self._takeover.vacate(worker, since_s, now_s)
            away = worker.node in self._away
        self.fleet.fence_off(worker)
        if not away:
            self._background.run(self._bring_back, worker.node)
        return index

    def ban(self, node: str) -> None:
        """Ends what runs on a node, which is noticed like any loss, and lets it never come back."""
        with self._lock:
            self._away.add(node)
        for worker in list(self.fleet.workers):
            if worker.node == node:
                worker.process.kill()

    def recover(self, index: int, live: Iterable[Cached]) -> None:
        """Has a pipeline work again, on a thread; an event tells how that ended.

        Does nothing where that is under way: what is lost meanwhile, the thread finds or
        ``settle``.
        """
        if index not in self.recovering:
            self.recovering[index] = self._returned
            self._background.run(self._recover, index, list(live))

    def settle(self, event: Stranded | Whole | Back) -> list[int]:
        """Takes note of what a thread told; the pipelines whose recovery is to begin (again)."""
        if isinstance(event, Back):
            self._returned += 1
            return list(self.stranded)
        index, workers = event.pipeline, self.fleet.stages_of(event.pipeline)
        missed = self.recovering.pop(index) != self._returned  # who came back found it under way
        for worker in workers:
            worker.heard_s, worker.busy_s = time.monotonic(), 0.0
        if isinstance(event, Stranded):
            self.stranded.setdefault(index, (event.at_s, event.reason))
            return [index] if missed else []
        if any(worker.lost or self._broken(worker, index) for worker in workers):
            return [index]
        self.stranded.pop(index, None)
        self.recoveries += self._takeover.mended(index, event.at_s)
        return []

    def _broken(self, worker: Worker, index: int) -> bool:
        """Whether a worker said so of a connection that is in use."""
        return worker.broken == self.fleet.lines[index].epoch

    def _recover(self, index: int, live: list[Cached]) -> None:
        while not self._background.closed:
            try:
                self._takeover.mend(index, live)
            except WorkerLostError as error:
                self.lose(error.worker, time.monotonic())
            except PlannerError as error:
                self.tell(Stranded(index, error.message, time.monotonic()))
                return
            else:
                self.tell(Whole(index, time.monotonic()))
                return

    def _strike(self, loss: Loss) -> None:
        """Has a node go, and come back when its time has come."""
        node = self.fleet.holders[loss.post].node if loss.post else loss.node
        with self._lock:
            self._away.add(node)
        for worker in [one for one in self.fleet.workers if one.node == node]:
            self._struck_s[node] = time.monotonic()
            worker.process.strike(loss.hangs)
        if loss.away_s is not None:
            self._background.run(self._end_absence, node, after_s=loss.away_s)

    def _end_absence(self, node: str) -> None:
        """Has a node come back, if its loss was noticed; else it does once that is."""
        with self._lock:
            self._away.discard(node)
            gone = all(worker.lost for worker in self.fleet.workers if worker.node == node)
        if gone:
            self._bring_back(node)

    def _bring_back(self, node: str) -> None:
        """Starts a new worker on a node, which holds what the plan gave the node."""
        for _ in range(_MOST_FAILED_RETURNS):
            worker = self.fleet.respawn(node, lambda: self._background.closed)
            with self._lock:
                if worker is None or self._background.closed:
                    return
                self._coming.append(worker)
            try:
                post = self._home(node)
                if post is not None:
                    self.fleet.load(worker, post)  # torch comes first there, and says nothing
            except PlannerError:
                self.fleet.fence_off(worker)
            else:
                with self._lock:
                    self.fleet.enlist(worker)
                    self._note_return(node, time.monotonic())
                self.tell(Back(node))
                return
            finally:
                with self._lock:
                    self._coming.remove(worker)
        _LOG.warning("%s is given up: %d new workers failed there", node, _MOST_FAILED_RETURNS)

    def _note_return(self, node: str, now_s: float) -> None:
        for index, one in enumerate(self.absences):
            if one.node == node and one.back_s == math.inf:
                self.absences[index] = one._replace(back_s=now_s)

    def _home(self, node: str) -> Post | None:
        """The stage whose weights a node should have ready."""
        plan = self.fleet.plan
        for index, pipeline in enumerate(plan.pipelines):
            if node in pipeline.nodes:
                return index, pipeline.nodes.index(node)
        hot = (one for one in plan.standbys if one.node == node and one.state == "hot")
        return next(((one.pipeline, one.stage) for one in hot), None)
