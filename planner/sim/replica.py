"""Replica: a pipeline that nothing but requests ever touches, without an object for any of them.

Most simulations are of engines with vLLM's rules, under open arrivals, on nodes that stay. There a
request changes the state of its pipeline twice: when its prompt is computed and when it has had
its last token; and where blocks of cache run out it begins anew. The lanes of ``sim/rows.py``
follow that, too, but through schedules, pools and cohorts made for all that may happen besides,
which take most of their time. Here a request is a number, its place in columns, and a pipeline is a
process whose state is a few local numbers. The rules are those of ``core/continuous.py`` and times
those of ``sim/pace.py``; which runs are simple enough is said in ``sim/replicas.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt

from planner.core.cost.batch import leaning_tokens
from planner.core.kvpool import KvPool
from planner.sim.circle import Circle, Columns, Part
from planner.sim.pace import Pace, Piece
from planner.sim.row import Row

Process = Generator[float, float, None]
"""Says when something happens next, and is told until when it may go on."""


@dataclass(slots=True)
class Replica:
    """What a pipeline with a single group is like, and who waits for it."""

    columns: Columns
    pace: Pace
    seats: int
    budget: int
    """Most tokens of a step."""
    blocks: int
    block: int
    """Tokens of a block of cache."""
    keeps: bool
    """Whether a prefix that is still in the cache is used again."""
    skew: float
    warmup: int
    """Leading requests that do not count."""
    runs: list[float]
    """Gaps between tokens, as ``core/gaps.py`` keeps them."""
    normals: Iterator[float]
    leave: Callable[[], None]
    """Told of everybody who has had the last token."""
    line: deque[int] = field(default_factory=deque)
    """Requests that wait, or are still being tokenised."""
    partial: int = -1
    """Who has a prompt of which more is to be computed, and how much of it was."""
    sent: int = 0
    circle: Circle = field(init=False)
    """Who decodes."""
    row: Row = field(default_factory=Row)
    """Equal steps that are under way."""
    most_seats: int = 0
    happened: int = 0
    """Rows and steps with prompts."""
    preempted: int = 0
    asked_again: int = 0
    """Tokens of those who were admitted again, and of these, tokens that were still in the cache.
    """
    reused: int = 0

    def __post_init__(self) -> None:
        self.circle = Circle(self.columns, self.warmup, self.leave, self.runs, self.block)
        self.row.jitter_s = self.pace.jitter_s

    def serve(self) -> Process:
        """Serves who is put in line."""
        pace, line, row, runs, normals = self.pace, self.line, self.row, self.runs, self.normals
        circle, ready_s, jitter_s = self.circle, self.columns.ready_s, pace.jitter_s
        block, room = self.block, self.blocks * self.block
        # cached tokens as attention feels them are linear in their sum and the longest's
        evenly, longest = leaning_tokens(1, 1, 0, self.skew), leaning_tokens(1, 0, 1, self.skew)
        now_s, until_s, newcomers = 0.0, (yield inf), False
        while True:
            parts: Sequence[Part] | None = None
            waits = bool(line) and ready_s[line[0]] <= now_s
            if waits or self.partial >= 0 or circle.context + circle.size * block > room:
                parts = self._step(now_s, waits, newcomers)
                newcomers = False
            size, counted = circle.size, circle.counted
            felt = evenly * circle.context + longest * size * (circle.steps - circle.lack)
            if parts is not None:
                rounds, step_s = 1, pace.alone_s(size, felt, parts)
                if jitter_s:
                    step_s = max(0.0, step_s + jitter_s * next(normals))
                ends_s = now_s + step_s
                while ends_s >= until_s:
                    until_s = yield ends_s
                if counted:
                    runs += (step_s, step_s, counted, 0.0)
            elif size:
                piece = self._steps(now_s, size, felt)
                rounds, ends_s = row.rounds, row.ends_s
                while True:
                    comes_s = inf if waits or not line else ready_s[line[0]]
                    if comes_s < ends_s and comes_s < until_s:
                        waits = True
                        if self._fits():
                            newcomers = True
                            row.cut(comes_s, normals)
                            rounds, ends_s = row.rounds, row.ends_s
                    elif ends_s < until_s:
                        break
                    else:
                        until_s = yield min(ends_s, comes_s)
                step_s = row.step_s
                piece.times += rounds
                piece.context += rounds * felt + size * (rounds * (rounds - 1) // 2)
                if counted:
                    latest_s = step_s + (rounds - 1) * row.growth_s
                    runs += (step_s, latest_s, rounds * counted, jitter_s)
            else:
                now_s = comes_s = ready_s[line[0]] if line else inf
                while comes_s >= until_s:
                    until_s = yield comes_s
                    now_s = comes_s = ready_s[line[0]] if line else inf
                continue
            now_s = ends_s
            self.happened += 1
            if size:
                if circle.pool is not None and rounds > 1:
                    circle.pool.take(circle.held(rounds) - circle.held(1))
                circle.pass_steps(rounds, now_s)
            if parts:
                circle.join(parts, now_s)

    def _steps(self, now_s: float, size: int, felt: float) -> Piece:
        """Begins as many equal steps as there can be; what they lie on."""
        pace, row, most = self.pace, self.row, self.circle.end - self.circle.steps
        for piece in pace.pieces.get(size, ()):
            if piece.low <= felt <= piece.high:
                break
        else:
            piece = pace.decode(size, felt)
        rounds, slope_s = most, piece.growth_s
        if felt + most * size > piece.high:
            rounds = min(most, int((piece.high - felt) // size) + 1)
        circle, block = self.circle, self.block
        crowded = circle.context + size * (rounds + block) > self.blocks * block
        if crowded and circle.held(rounds) > self.blocks:
            rounds = bisect_right(range(1, rounds), self.blocks, key=circle.held)
        step_s, growth_s = piece.step_s + slope_s * felt, slope_s * size
        if row.jitter_s:
            step_s += row.jitter_s * next(self.normals) / sqrt(rounds)
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        row.began_s, row.rounds, row.step_s, row.growth_s = now_s, rounds, step_s, growth_s
        row.ends_s = ends_s if ends_s > now_s else now_s
        return piece

    def _step(self, now_s: float, waits: bool, newcomers: bool) -> list[Part] | None:
        """Pieces of prompts for the next step, as far as seats, budget and blocks go.

        None where equal steps without any may follow. As in lanes, one to which somebody seemed to
        be admitted is decided for itself, and so is one before which somebody is preempted.
        """
        circle, block, left = self.circle, self.block, 0
        parts: list[Part] = []
        size = circle.size
        # nobody who decodes has more than a block beyond those that are full
        most = (circle.context + size * block) // block
        free, budget = self.blocks - most, self.budget - size
        if self.partial >= 0 or free < 0:
            most = circle.held(1)
            if self.partial >= 0:
                left = self.columns.prompts[self.partial] - self.sent
            free = self.blocks - most - -(-(self.sent + min(left, budget)) // block)
            if free < 0:
                self._preempt(now_s)
                return parts
        if circle.pool is not None:
            circle.pool.take(circle.held(1) - circle.held(0))
        if left:
            parts.append(self._part(self.partial, self.sent, left, budget))
        if self.partial < 0:
            self._admit(now_s, parts, budget - left, free, most)
        seated = size + len(parts)
        if seated > self.most_seats:
            self.most_seats = seated
        return parts if parts or newcomers or (waits and self._fits()) else None

    def _admit(self, now_s: float, parts: list[Part], budget: int, free: int, most: int) -> None:
        """Adds prompts from the line; more blocks are free where decoding takes fewer than most."""
        columns, line, block, circle = self.columns, self.line, self.block, self.circle
        seats = self.seats - circle.size - len(parts)
        while line and budget > 0 and seats > 0:
            number = line[0]
            tokens = columns.prompts[number]
            needed = -(-tokens // block)
            if free < needed and most:
                free, most = free + most - circle.held(1), 0
            if columns.ready_s[number] > now_s or free < needed:
                break
            line.popleft()
            cached = 0
            if columns.begun_s[number] == inf:
                columns.begun_s[number] = now_s
            else:
                cached = self._cached(number)
                tokens -= cached
            parts.append(self._part(number, cached, tokens, budget))
            free -= needed
            budget -= tokens
            seats -= 1

    def _preempt(self, now_s: float) -> None:
        """Has those who came last wait again, until everybody else can have a token."""
        circle, line, block = self.circle, self.line, self.block
        if circle.pool is None:
            # what blocks held before does not matter to those who go now
            circle.pool = KvPool(self.blocks, block, self.keeps)
            circle.pool.take(circle.held(0) + circle.pool.holding(self.sent))
        waiting = len(line)
        if self.partial >= 0:
            circle.pool.give_back(self.partial, self.sent)
            line.appendleft(self.partial)
            self.partial, self.sent = -1, 0
        while circle.held(1) > self.blocks:
            line.appendleft(circle.preempt(now_s))
        circle.pool.take(circle.held(1) - circle.held(0))
        self.preempted += len(line) - waiting

    def _cached(self, number: int) -> int:
        """Tokens that are still in the cache of one who was preempted and is admitted again."""
        circle, line = self.circle, self.line
        tokens, pool = self.columns.prompts[number], circle.pool
        assert pool is not None
        hit = pool.prefix_blocks(number, tokens - 1)
        if hit:
            pool.claim(number, hit)
        if not line or self.columns.begun_s[line[0]] == inf:
            circle.pool = None
        self.asked_again += tokens
        self.reused += hit * self.block
        return hit * self.block

    def _part(self, number: int, sent: int, left: int, budget: int) -> Part:
        """What the next step computes of a prompt of which so many tokens are left."""
        pool, completes = self.circle.pool, left <= budget
        tokens = left if completes else budget
        self.partial, self.sent = (-1, 0) if completes else (number, sent + tokens)
        if pool is not None:
            pool.take(pool.holding(sent + tokens) - pool.holding(sent))
        return Part(number, sent, tokens, completes)

    def _fits(self) -> bool:
        """Whether a step now would have room for the first in line."""
        circle, block = self.circle, self.block
        if circle.size >= self.budget or circle.size >= self.seats:
            return False
        needed = -(-self.columns.prompts[self.line[0]] // block)
        free = self.blocks - (circle.context + circle.size * block) // block
        return needed <= free or needed <= self.blocks - circle.held(0)
