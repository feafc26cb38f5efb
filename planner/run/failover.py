"""Failover: notices lost workers and has others take over their stages.

The rules are the simulator's: the first node that is there and idle takes a stage, the one the
plan gave it to or one of its standbys in the order of the plan. It loads the weights if it does
not hold them. The stage before it sends the stored inputs of all seated sequences again, and
interrupted jobs are sent once more. A worker that was lost is ended for good; its node comes back
with a new one. See ``docs/life-of-a-request.md``.
"""

from __future__ import annotations

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
from planner.run.losses import Absence, Back, Care, Event, Loss, Recovered, Stranded, Whole
from planner.run.steps import Step

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
    """Who is lost and who takes over; slow work is done on threads, whose outcome is told."""

    fleet: Fleet
    care: Care
    tell: Callable[[Event], None]
    deadlines: Deadlines = field(init=False)
    recoveries: list[Recovered] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    recovering: set[int] = field(default_factory=set)
    """Pipelines that a thread works on."""
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
    """How many nodes came back so far."""
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
        return [worker for worker in self.fleet.workers if worker.node not in busy]

    def begin(self, start_s: float) -> None:
        """Starts the clock of the losses to rehearse."""
        for loss in self.care.losses:
            left_s = start_s + loss.at_s - time.monotonic()
            self._run(threading.Timer(left_s, self._strike, [loss]))

    def listen(self, worker: Worker) -> dict[str, Any]:
        """What a worker says that nobody else waits for. Raises as ``Worker.hear`` does."""
        with self._lock:
            return worker.listen() if worker in self.watched else {}

    def silent(self, now_s: float) -> list[Worker]:
        """Workers that do not answer in time or do not finish a step; asks the others again."""
        found, detect_s = [], self.care.problem.serving.detect_s
        with self._lock:
            for worker in self.watched:
                asked_s = self._asked_s.get(worker, 0.0)
                unanswered = asked_s > worker.heard_s
                late = unanswered and now_s - asked_s > detect_s
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
        """Ends a lost worker; the pipeline that lost a stage by it, or None."""
        if worker.lost:
            return None
        self.fleet.fence_off(worker)
        self._asked_s.pop(worker, None)
        since_s = self._struck_s.pop(worker.node, worker.heard_s or now_s)
        self.absences.append(Absence(worker.node, since_s, math.inf))
        held = [post for post, holder in self.fleet.holders.items() if holder is worker]
        for post in held:
            self._empty.add(post)
            self._lost.setdefault(post, _Lost(worker.node, since_s, now_s))
        if worker.node not in self._away:
            self._run(threading.Thread(target=self._bring_back, args=(worker.node,)))
        return held[0][0] if held else None

    def ban(self, node: str) -> None:
        """Ends what runs on a node, which is noticed like any loss, and lets it never come back."""
        self._away.add(node)
        for worker in list(self.fleet.workers):
            if worker.node == node:
                worker.process.kill()

    def recover(self, index: int, live: Iterable[Cached]) -> None:
        """Has a pipeline work again, on a thread; ``Whole`` or ``Stranded`` is told of it."""
        with self._lock:
            self.recovering.add(index)
        self._run(threading.Thread(target=self._recover, args=(index, list(live))))

    def _run(self, thread: threading.Thread) -> None:
        thread.daemon = True
        with self._lock:
            if not self._closed:
                self._threads = [one for one in self._threads if one.is_alive()]
                thread.start()
                self._threads.append(thread)

    def _recover(self, index: int, live: list[Cached]) -> None:
        while not self._closed:
            returned = self._returned
            try:
                self._fill(index)
                self.fleet.connect(index, self.deadlines.answer_s)
                self._replay(index, live)
            except WorkerLostError as error:
                self.lose(error.worker, time.monotonic())
            except Exception as error:  # of any kind, or its requests would wait for ever
                reason = error.message if isinstance(error, PlannerError) else repr(error)
                if self._strand(index, reason, returned):
                    return
            else:
                self.stranded.pop(index, None)
                self._note(index, time.monotonic())
                self._end(index, Whole(index))
                return

    def _strand(self, index: int, reason: str, returned: int) -> bool:
        """Gives a pipeline up until a node returns; False where one has since ``returned`` had.

        Whoever hears of that return finds the recovery under way and leaves it at that.
        """
        with self._lock:
            if self._returned != returned:
                return False
            self.stranded.setdefault(index, (time.monotonic(), reason))
            self._end(index, Stranded(index, reason))
            return True

    def _note(self, index: int, now_s: float) -> None:
        """Writes down the recovery of the stages that were lost."""
        for post in sorted(post for post in self._lost if post[0] == index):
            lost, taker = self._lost.pop(post), self.fleet.holders[post].node
            times = (lost.lost_s, lost.found_s, now_s)
            self.recoveries += [Recovered(*post, lost.node, taker, *times, lost.hot, lost.replays)]

    def _end(self, index: int, event: Event) -> None:
        for post, worker in self.fleet.holders.items():
            if post[0] == index:
                worker.heard_s, worker.busy_s = time.monotonic(), 0.0
        self.recovering.discard(index)
        self.tell(event)

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
                    self._taking.discard(worker.node)

    def _give(self, worker: Worker, post: Post) -> None:
        """Has a worker hold a stage that was lost; raises PlannerError."""
        if worker.post != post:
            self._lost[post].hot = False
            self.fleet.depot.supply(worker, post, self.deadlines.answer_s)
            self.fleet.load(worker, post, self.deadlines.answer_s)
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
            idle = {w.node: w for w in self.fleet.workers if w not in busy}
            for name in names:
                if name in idle and name not in self._taking and name not in passed_over:
                    self._taking.add(name)
                    return idle[name]
        raise RunError(f"lost {self.fleet.holders[post].node}; nothing replaced it{unfit}")

    def _replay(self, index: int, live: list[Cached]) -> None:
        """Has the stages without a cache compute what they should hold, first to last."""
        for post in sorted(post for post in self._empty if post[0] == index):
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
            self._empty.discard(post)

    def _strike(self, loss: Loss) -> None:
        """Has a node go, and come back when its time has come."""
        node = self.fleet.holders[loss.post].node if loss.post else loss.node
        self._away.add(node)
        for worker in [one for one in self.fleet.workers if one.node == node]:
            self._struck_s[node] = time.monotonic()
            worker.process.strike(loss.hangs)
        if loss.away_s is not None:
            self._run(threading.Timer(loss.away_s, self._end_absence, [node]))

    def _end_absence(self, node: str) -> None:
        self._away.discard(node)
        if all(worker.node != node for worker in self.fleet.workers):
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
                    self._returned += 1
                self._note_return(node, time.monotonic())
                self.tell(Back(node))
                return
            finally:
                self._coming.remove(worker)

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
