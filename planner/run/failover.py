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
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from planner.core.errors import PlannerError, RunError
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
from planner.run.steps import Step

_LOG = logging.getLogger(__name__)
_BEATS = 10
"""Signs of life that are asked for within the detection deadline."""
_MOST_FAILED_RETURNS = 3
_CLOSE_S = 5.0


@dataclass(slots=True)
class _Lost:
    """A stage without a working holder."""

    node: str
    lost_s: float
    found_s: float
    hot: bool = True
    """Whether nobody had to load weights for it."""
    replays: tuple[Step, ...] = ()


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
    _lost: dict[Post, _Lost] = field(default_factory=dict)
    _empty: set[Post] = field(default_factory=set)
    """Stages whose holder lacks the cache of the seated sequences."""
    _taking: set[str] = field(default_factory=set)
    """Nodes that are about to take a stage."""
    _struck_s: dict[str, float] = field(default_factory=dict)
    _away: set[str] = field(default_factory=set)
    """Nodes that stay away until their time has come."""
    _asked_s: dict[Worker, float] = field(default_factory=dict)
    """When each worker was last asked for a sign of life."""
    _coming: list[Worker] = field(default_factory=list)
    """Workers that are being started on nodes that come back."""
    _returned: int = 0
    """How many nodes were heard to come back so far."""
    _threads: list[threading.Thread] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.deadlines = Deadlines(self.fleet, self.care.problem)

    def __enter__(self) -> Failover:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets nobody come back any more and waits for the threads."""
        with self._lock:
            self._closed = True
            threads, coming = self._threads, list(self._coming)
        for worker in coming:
            self.fleet.fence_off(worker)
        for thread in threads:
            if isinstance(thread, threading.Timer):
                thread.cancel()
            thread.join(_CLOSE_S)

    @property
    def period_s(self) -> float:
        """How often ``silent`` should be called."""
        return self.care.problem.serving.detect_s / _BEATS

    @property
    def watched(self) -> list[Worker]:
        """Workers whose messages nobody else waits for."""
        holders = self.fleet.holders.items()
        busy = {worker.node for (index, _), worker in holders if index in self.recovering}
        busy |= self._taking
        return [one for one in self.fleet.workers if one.node not in busy and not one.lost]

    def begin(self, start_s: float) -> None:
        """Starts the clock of the losses to rehearse."""
        for loss in self.care.losses:
            self._run(self._strike, loss, after_s=start_s + loss.at_s - time.monotonic())

    def listen(self, worker: Worker) -> dict[str, Any]:
        """What a worker says that nobody else waits for. Raises as ``Worker.hear`` does.

        Nothing where a recovery has read since what seemed to be there.
        """
        with self._lock:
            speaks = worker in self.watched and ready([worker.control])
            return worker.listen() if speaks else {}

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
            held = [post for post, holder in self.fleet.holders.items() if holder is worker]
            for post in held:
                self._empty.add(post)
                self._lost.setdefault(post, _Lost(worker.node, since_s, now_s))
            worker.lost = True
            away = worker.node in self._away
        self.fleet.fence_off(worker)
        if not away:
            self._run(self._bring_back, worker.node)
        return held[0][0] if held else None

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
            self._run(self._recover, index, list(live))

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
        epoch = self.fleet.lines[index].epoch
        if any(worker.lost or worker.broken == epoch for worker in workers):
            return [index]
        self.stranded.pop(index, None)
        self._note(index, event.at_s)
        return []

    def _run(self, work: Callable[..., None], *values: object, after_s: float = 0.0) -> None:
        """Does something on a thread, at once or later; what it does not expect is told."""

        def guarded() -> None:
            try:
                work(*values)
            except Exception as error:
                if not self._closed:  # else processes and files end under it
                    self.tell(Fault(error))

        thread = threading.Timer(after_s, guarded) if after_s else threading.Thread(target=guarded)
        thread.daemon = True
        with self._lock:
            if not self._closed:
                self._threads = [one for one in self._threads if one.is_alive()]
                thread.start()
                self._threads.append(thread)

    def _recover(self, index: int, live: list[Cached]) -> None:
        while not self._closed:
            try:
                self._fill(index)
                self.fleet.connect(index, self.deadlines.answer_s)
                self._replay(index, live)
            except WorkerLostError as error:
                self.lose(error.worker, time.monotonic())
            except PlannerError as error:
                self.tell(Stranded(index, error.message, time.monotonic()))
                return
            else:
                self.tell(Whole(index, time.monotonic()))
                return

    def _note(self, index: int, now_s: float) -> None:
        """Writes down the recovery of the stages that were lost."""
        with self._lock:
            posts = sorted(post for post in self._lost if post[0] == index)
            lost = {post: self._lost.pop(post) for post in posts}
        for post, one in lost.items():
            taker, times = self.fleet.holders[post].node, (one.lost_s, one.found_s, now_s)
            self.recoveries += [Recovered(*post, one.node, taker, *times, one.hot, one.replays)]

    def _fill(self, index: int) -> None:
        """Has a worker at every stage of a pipeline; raises RunError where there is none."""
        for stage in range(len(self.fleet.plan.pipelines[index].stages)):
            post, unfit = (index, stage), ""
            passed_over: set[str] = set()
            while self.fleet.holders[post].lost:
                worker = self._taker(post, passed_over, unfit)
                try:
                    self._give(worker, post)
                except WorkerLostError:
                    raise
                except PlannerError as error:  # it lives and cannot: another one may
                    unfit = f" ({worker.node} could not: {error.message})"
                    passed_over.add(worker.node)
                finally:
                    with self._lock:
                        self._taking.discard(worker.node)

    def _give(self, worker: Worker, post: Post) -> None:
        """Has a worker hold a stage that was lost; raises PlannerError."""
        if worker.post != post:
            self._lost[post].hot = False
            self.fleet.depot.supply(worker, post, self.deadlines.answer_s)
            self.fleet.load(worker, post, self.deadlines.answer_s)
        with self._lock:
            self.fleet.holders[post] = worker
            self._empty.add(post)

    def _taker(self, post: Post, passed_over: Collection[str], unfit: str) -> Worker:
        """The first node that may take a stage, is there, idle and not ``passed_over``.

        Raises RunError where there is none, which says why one was ``unfit``.
        """
        names = [self.fleet.stage(post).node]
        names += [
            standby.node
            for standby in self.fleet.plan.standbys
            if (standby.pipeline, standby.stage) == post
        ]
        with self._lock:
            busy = {worker for worker in self.fleet.holders.values() if not worker.lost}
            idle = {w.node: w for w in self.fleet.workers if w not in busy and not w.lost}
            for name in names:
                if name in idle and name not in self._taking and name not in passed_over:
                    self._taking.add(name)
                    return idle[name]
        raise RunError(f"lost {self.fleet.holders[post].node}; nothing replaced it{unfit}")

    def _replay(self, index: int, live: list[Cached]) -> None:
        """Has the stages without a cache compute what they should hold, first to last."""
        with self._lock:
            empty = sorted(post for post in self._empty if post[0] == index)
        for post in empty:
            stage, worker = post[1], self.fleet.holders[post]
            if stage == 0:
                frames = self.fleet.lines[index].outlet.replay(live, self.care.as_sent)
            else:
                order = {"replay": {"live": live, "as_sent": self.care.as_sent}}
                before = self.fleet.holders[index, stage - 1]
                frames = before.ask(order, "replaying", self.deadlines.answer_s)["replaying"]
            limit_s = self.deadlines.replay_s(post, live)
            heard = (worker.hear("replayed", limit_s)["replayed"] for _ in range(frames))
            self._lost[post].replays = tuple(Step(*step) for step in heard)
            if self.fleet.inspection is not None:
                self.fleet.inspection.hand_over(post, live)
            with self._lock:
                self._empty.discard(post)

    def _strike(self, loss: Loss) -> None:
        """Has a node go, and come back when its time has come."""
        node = self.fleet.holders[loss.post].node if loss.post else loss.node
        with self._lock:
            self._away.add(node)
        for worker in [one for one in self.fleet.workers if one.node == node]:
            self._struck_s[node] = time.monotonic()
            worker.process.strike(loss.hangs)
        if loss.away_s is not None:
            self._run(self._end_absence, node, after_s=loss.away_s)

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
            worker = self.fleet.respawn(node, lambda: self._closed)
            with self._lock:
                if worker is None or self._closed:
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
