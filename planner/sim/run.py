"""Run: one run over a network, with what is rare on simpy's clock."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from planner.core.gaps import Gaps
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.schedule import Router
from planner.core.workload import Request
from planner.sim.failover import Failover
from planner.sim.failures import too_long
from planner.sim.flow import flow, flows
from planner.sim.lane import Lane
from planner.sim.lanes import lanes_of
from planner.sim.network import Network
from planner.sim.result import Visit
from planner.sim.served import Served
from planner.sim.turns import Turns
from planner.sim.watch import Watch


@dataclass(slots=True)
class Run:
    """One run over a network: arrivals and what is rare; the lanes do what follows from it.

    simpy keeps the clock of what is rare. At one moment, losses and recoveries come first, then
    arrivals, then the lanes.
    """

    problem: Problem
    plan: Plan
    network: Network
    keep_visits: bool
    exact_steps: bool
    watch: Watch | None = None
    env: simpy.Environment = field(default_factory=simpy.Environment)
    clock_s: float = 0.0
    served: list[Served] = field(default_factory=list)
    """Every request that came, in order of coming."""
    visits: list[Visit] = field(default_factory=list)
    happened: int = 0
    """Events, and jobs that took their place."""
    jobs: int = 0
    warmup: int = field(init=False)
    """Leading requests that do not count."""
    request_s: float = field(init=False)
    """How long tokenising takes."""
    failover: Failover = field(init=False)
    router: Router = field(init=False)
    lanes: Sequence[Lane] = ()
    gaps: Gaps = field(default_factory=Gaps)
    evicted_tokens: int = 0
    """Tokens in caches that were given up because their requests began anew elsewhere."""
    presence_s: float = 0.0
    """Times at which requests ended less those at which they came."""
    owed_tokens: int = 0
    """Tokens that completed requests have not had; none in a correct simulator."""
    unresolved: int = 0
    """Requests that have neither been completed nor failed."""
    rooms: Sequence[int] = ()
    """By pipeline: the longest request that fits, in tokens."""
    coming: deque[Request] = field(default_factory=deque)
    preparing: deque[tuple[float, Served]] = field(default_factory=deque)
    """Requests that are being tokenised, and when they are ready."""
    turns: Turns = field(init=False)
    closed: bool = False
    """Whether an answer may bring another request."""
    loop: bool = False
    """Whether a user's first request comes when another user's last one is answered."""
    ordered: bool = False
    """Whether what happens in one lane may depend on another."""
    lasted_s: float = 0.0
    """When the last request ended, or the horizon if something was still to happen."""

    def replay(self, requests: Sequence[Request], concurrency: int | None) -> None:
        """Lets every request arrive and runs until nothing is left to happen; once prepared."""
        self.coming.extend(one for one in requests if one.after is None)
        self.loop = concurrency is not None
        self.closed = self.loop or self.turns.any
        self.ordered = self.closed or not all(lane.alone for lane in self.lanes)
        for _ in range(concurrency or 0):
            self._next_of_user()
        horizon_s = self.problem.workload.horizon_s
        while self.unresolved and self._go_on(math.inf if horizon_s is None else horizon_s):
            pass
        if self.unresolved:
            self.lasted_s = self.clock_s if horizon_s is None else horizon_s
        self.close()

    def close(self) -> None:
        """Ends the books."""
        for lane in self.lanes:
            lane.close(self.lasted_s)

    def prepare(self, requests: Sequence[Request]) -> None:
        """Gets ready for requests: idle lanes, and nodes that come and go."""
        self.warmup = self.problem.workload.warmup_requests
        self.request_s = self.problem.engine.request_s
        self.lanes = lanes_of(self)
        most = self.problem.tokens_per_request
        self.rooms = [lane.schedule.most_tokens or most for lane in self.lanes]
        self.router = Router(self.plan)
        self.turns = Turns(requests)
        self.unresolved = len(requests)
        self.failover = Failover(self.problem, self.plan, self.network, self)
        self.failover.watch()

    def _go_on(self, end_s: float) -> bool:
        """Lets the lanes go on to the next event or arrival, and that happen; False at the end."""
        queue, preparing = self.env._queue, self.preparing
        event_s = queue[0][0] if queue else math.inf
        if flows(self):
            flow(self, event_s, end_s)
        first_s = self.coming[0].arrival_s if self.coming and not self.loop else math.inf
        if preparing and preparing[0][0] <= first_s:
            ready_s, sequence = preparing[0]
            if ready_s <= event_s and ready_s < end_s:
                return self._line_up(ready_s, sequence)
        limit_s = min(event_s, first_s, end_s)
        if self._lanes_go_on(limit_s):
            return True
        if limit_s == end_s or not self.unresolved:
            return False
        self.clock_s = limit_s
        if first_s > event_s:
            self.env.step()
        else:
            self.arrive(self.coming.popleft())
        return True

    def _line_up(self, ready_s: float, sequence: Served) -> bool:
        """Puts a request in line that is tokenised now."""
        if not self._lanes_go_on(ready_s):
            self.clock_s = ready_s
            self.preparing.popleft()
            self._wait(sequence)
        return True

    def _lanes_go_on(self, until_s: float) -> bool:
        """Lets happen in the lanes what happens before; True if that may bring something nearer.

        Lanes that wait for each other, at the coordinator or because a user sends the next request
        when one is answered, go on in the order of time.
        """
        if not self.ordered:
            for lane in self.lanes:
                if lane.next_s < until_s:
                    lane.advance(until_s)
            return False
        lane, others_s = self._next_lane()
        if lane.next_s >= until_s:
            return False
        lane.advance(min(until_s, math.nextafter(others_s, math.inf)))
        return True

    def _next_lane(self) -> tuple[Lane, float]:
        """The lane in which something happens first, and when something happens in another."""
        first, others_s = self.lanes[0], math.inf
        for lane in self.lanes[1:]:
            if lane.next_s < first.next_s:
                first, others_s = lane, first.next_s
            elif lane.next_s < others_s:
                others_s = lane.next_s
        return first, others_s

    def at(self, when_s: float, act: Callable[[], None], priority: int = 1) -> None:
        """Has ``act`` happen at a moment, after what was planned for it before."""
        if when_s == math.inf:
            return
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        event.callbacks = [lambda _: self._happen(act)]
        delay: Any = max(0.0, when_s - self.env.now)
        self.env.schedule(event, priority=priority, delay=delay)  # type: ignore[arg-type]

    def _happen(self, act: Callable[[], None]) -> None:
        self.happened += 1
        act()

    def now(self) -> float:
        """The clock (s)."""
        return self.clock_s

    def number(self) -> int:
        """A number of its own for every job."""
        self.jobs += 1
        return self.jobs

    def _next_of_user(self) -> None:
        """Sends a user's next request; one that is refused is followed by another at once."""
        while self.coming and not self.arrive(self.coming.popleft()):
            pass

    def arrive(self, request: Request) -> bool:
        """Routes a request and has it wait once it is tokenised; False if it can never fit."""
        now_s, prompt, output = self.clock_s, request.prompt_tokens, request.output_tokens
        index = self._route(request.session, self.failover.hopeful)
        served = self.served
        counts = len(served) >= self.warmup
        sequence = Served(request, index, now_s, prompt, output, counts, request.shared_tokens)
        served.append(sequence)
        self.presence_s -= now_s
        if prompt + output > self.rooms[index]:
            self._fail(sequence, too_long(prompt + output, self.rooms[index]))
            return False
        self.preparing.append((now_s + self.request_s, sequence))
        return True

    def _wait(self, sequence: Served) -> None:
        """Puts a sequence in line; where no pipeline works, only until it loses patience."""
        failover = self.failover
        if sequence.pipeline not in failover.hopeful:
            self._assign(sequence, failover.hopeful)
        index = sequence.pipeline
        self.lanes[index].add(sequence, self.clock_s)
        if index in failover.hopeless:
            patience_s = self.problem.serving.patience_s
            self.at(self.clock_s + patience_s, lambda: self._lose_patience(sequence))

    def _lose_patience(self, sequence: Served) -> None:
        index = sequence.pipeline
        if index in self.failover.hopeless and self.lanes[index].schedule.withdraw(sequence):
            self._fail(sequence, "no pipeline has all its nodes")
            self._next_if_closed()

    def _assign(self, sequence: Served, among: Sequence[int]) -> int:
        self.router.leave(sequence.pipeline)
        index = sequence.pipeline = self._route(sequence.session, among)
        return index

    def _route(self, session: int | None, among: Sequence[int]) -> int:
        """A pipeline among some: the one that has the session's prefix, or the least loaded."""
        if session is None:
            return self.router.assign(among)
        home = self.turns.home(session) if self.problem.serving.sticky_sessions else None
        index = self.router.assign(among if home is None or home not in among else [home])
        self.turns.settle(session, index)
        return index

    def complete(self, sequence: Served) -> None:
        """Notes that a sequence has had its last token."""
        sequence.status = "completed"
        self.owed_tokens += sequence.left
        self._end(sequence)
        if not self.closed:
            return
        following = self.turns.after(sequence.request.id)
        if following is None:
            self._next_if_closed()
        else:
            self.at(self.clock_s + following.think_s, lambda: self._take_turn(following))

    def _take_turn(self, request: Request) -> None:
        """Sends the next turn of a session; if it is refused, the session is over."""
        if not self.arrive(request):
            self._next_if_closed()

    def _fail(self, sequence: Served, reason: str) -> None:
        sequence.status, sequence.reason = "failed", reason
        self._end(sequence)
        self.unresolved -= self.turns.give_up(sequence.request.id)

    def _end(self, sequence: Served) -> None:
        """Notes that a request is completed or has failed; lanes need not come in order of time."""
        now_s = self.clock_s
        self.unresolved -= 1
        self.router.leave(sequence.pipeline)
        self.presence_s += now_s
        if now_s > self.lasted_s:
            self.lasted_s = now_s

    def _next_if_closed(self) -> None:
        if self.loop:
            self._next_of_user()

    def interrupt(self, index: int, node: str) -> None:
        """Gives up the jobs under way in a pipeline; they are sent again when it resumes."""
        self.lanes[index].drop(self.clock_s)
        if self.watch is not None:
            self.watch.lose(node, self.clock_s)
        self.visits[:] = [
            visit for visit in self.visits if visit.place != node or visit.ended_s <= self.clock_s
        ]

    def resume(self, index: int) -> None:
        """Sends the interrupted jobs of a pipeline again and goes on."""
        self.lanes[index].resume(self.clock_s)

    def move(self, index: int) -> int:
        """Has the sequences of a pipeline begin anew in whole ones; how many had a seat."""
        self.evicted_tokens += sum(self.cached(index))
        lane = self.lanes[index]
        seated, everyone = len(lane.schedule.seated), lane.evict()
        for sequence in everyone:
            chosen = self._assign(sequence, self.failover.hopeful)
            self.lanes[chosen].add(sequence, self.clock_s)
        return seated

    def hand_on(self, index: int) -> None:
        """Has those who wait for a seat in a pipeline wait in one that stays."""
        lane = self.lanes[index]
        for sequence in lane.schedule.waiting:
            lane.schedule.withdraw(sequence)
            chosen = self._assign(sequence, self.failover.hopeful)
            self.lanes[chosen].add(sequence, self.clock_s)

    def fail(self, index: int, reason: str) -> None:
        """Fails all sequences of a pipeline."""
        everyone = self.lanes[index].evict()
        for sequence in everyone:
            self._fail(sequence, reason)
        for _ in everyone:
            self._next_if_closed()

    def cached(self, index: int) -> list[int]:
        """Cached tokens of the seated sequences of a pipeline."""
        return self.lanes[index].cached()
