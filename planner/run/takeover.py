"""Takeover: stages that lost their worker, and how another comes to hold and to know them."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from planner.core.errors import PlannerError, RunError
from planner.run.crew import Post, Worker, WorkerLostError
from planner.run.deadlines import Deadlines
from planner.run.fleet import Fleet
from planner.run.history import Cached
from planner.run.losses import Care, Recovered
from planner.run.steps import Step


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
class Takeover:
    """What is to be done for the pipelines of a fleet; each is mended by one thread at a time."""

    fleet: Fleet
    care: Care
    deadlines: Deadlines
    lock: threading.RLock
    """Held for moments only."""
    taking: set[str] = field(default_factory=set)
    """Nodes that are about to take a stage."""
    _lost: dict[Post, _Lost] = field(default_factory=dict)
    _empty: set[Post] = field(default_factory=set)
    """Stages whose holder lacks the cache of the seated sequences."""

    def vacate(self, worker: Worker, lost_s: float, found_s: float) -> int | None:
        """Notes that a worker is lost; the pipeline that lost a stage by it, or None."""
        with self.lock:
            held = [post for post, holder in self.fleet.holders.items() if holder is worker]
            for post in held:
                self._empty.add(post)
                self._lost.setdefault(post, _Lost(worker.node, lost_s, found_s))
            worker.lost = True
        return held[0][0] if held else None

    def mend(self, index: int, live: list[Cached]) -> None:
        """Has all stages of a pipeline held, connected and knowing their sequences.

        Raises WorkerLostError for who has to be replaced next, RunError where nobody is there.
        """
        self._fill(index)
        self.fleet.connect(index, self.deadlines.answer_s)
        self._replay(index, live)

    def mended(self, index: int, now_s: float) -> list[Recovered]:
        """The stages that were lost and are not any more."""
        with self.lock:
            posts = sorted(post for post in self._lost if post[0] == index)
            lost = {post: self._lost.pop(post) for post in posts}
        return [
            Recovered(
                *post,
                one.node,
                self.fleet.holders[post].node,
                one.lost_s,
                one.found_s,
                now_s,
                one.hot,
                one.replays,
            )
            for post, one in lost.items()
        ]

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
                    with self.lock:
                        self.taking.discard(worker.node)

    def _give(self, worker: Worker, post: Post) -> None:
        """Has a worker hold a stage that was lost; raises PlannerError."""
        if worker.post != post:
            self._lost[post].hot = False
            self.fleet.depot.supply(worker, post, self.deadlines.answer_s)
            self.fleet.load(worker, post, self.deadlines.answer_s)
        with self.lock:
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
        with self.lock:
            busy = {worker for worker in self.fleet.holders.values() if not worker.lost}
            idle = {w.node: w for w in self.fleet.workers if w not in busy and not w.lost}
            for name in names:
                if name in idle and name not in self.taking and name not in passed_over:
                    self.taking.add(name)
                    return idle[name]
        raise RunError(f"lost {self.fleet.holders[post].node}; nothing replaced it{unfit}")

    def _replay(self, index: int, live: list[Cached]) -> None:
        """Has the stages without a cache compute what they should hold, first to last."""
        with self.lock:
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
            with self.lock:
                self._empty.discard(post)
