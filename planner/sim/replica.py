"""Replica: a pipeline that nothing but requests ever touches, without an object for any of them.

Most simulations are of engines with vLLM's rules, under open arrivals, on nodes that stay. There a
request changes the state of its pipeline twice: when its prompt is computed and when it has had
its last token. The lanes of ``sim/rows.py`` follow that, too, but through schedules, pools and
cohorts made for all that may happen besides, which take most of their time. Here a request is a
number, its place in columns, and a pipeline is a process whose state is a few local numbers. The
rules are those of ``core/continuous.py`` and times those of ``sim/pace.py``; which runs are simple
enough is said in ``sim/replicas.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt

from planner.core.cost.batch import leaning_tokens
from planner.sim.circle import Circle, Columns, Part
from planner.sim.pace import Pace, Piece
from planner.sim.row import Row

Process = Generator[float, float, None]
"""Says when something happens next, and is told until when it may go on."""


class CrowdedError(Exception):
    """Blocks of cache have run out, so that somebody would be preempted."""


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

    def __post_init__(self) -> None:
        self.circle = Circle(self.columns, self.warmup, self.leave)
        self.row.jitter_s = self.pace.jitter_s

    def serve(self) -> Process:
        """Serves who is put in line; raises CrowdedError."""
        pace, line, row, runs, normals = self.pace, self.line, self.row, self.runs, self.normals
        circle, ready_s, jitter_s = self.circle, self.columns.ready_s, pace.jitter_s
        block, room = self.block, self.blocks * self.block
        # cached tokens as attention feels them are linear in their sum and the longest's
        evenly, longest = leaning_tokens(1, 1, 0, self.skew), leaning_tokens(1, 0, 1, self.skew)
        now_s, until_s = 0.0, (yield inf)
        while True:
            parts: Sequence[Part] = ()
            waits = bool(line) and ready_s[line[0]] <= now_s
            if waits or self.partial >= 0:
                parts = self._admit(now_s)
            size, counted = circle.size, circle.counted
            felt = evenly * circle.context + longest * size * (circle.steps - circle.lack)
            if parts:
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
                if circle.context + size * (rounds + block) > room:
                    self._check_room(rounds)
                while True:
                    comes_s = inf if waits or not line else ready_s[line[0]]
                    if comes_s < ends_s and comes_s < until_s:
                        waits = True
                        if self._fits():
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
        step_s, growth_s = piece.step_s + slope_s * felt, slope_s * size
        if row.jitter_s:
            step_s += row.jitter_s * next(self.normals) / sqrt(rounds)
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        row.began_s, row.rounds, row.step_s, row.growth_s = now_s, rounds, step_s, growth_s
        row.ends_s = ends_s if ends_s > now_s else now_s
        return piece

    def _admit(self, now_s: float) -> list[Part]:
        """Pieces of prompts for the next step, as far as seats, budget and blocks go."""
        columns, line, block, circle = self.columns, self.line, self.block, self.circle
        parts: list[Part] = []
        size = circle.size
        # nobody who decodes has more than a block beyond those that are full
        most = (circle.context + size * block) // block
        free, known = self.blocks - most, False
        budget = self.budget - size
        if self.partial >= 0:
            free, known = self.blocks - circle.held(1, block), True
            tokens = min(columns.prompts[self.partial] - self.sent, budget)
            free -= -(-(self.sent + tokens) // block)
            if free < 0:
                raise CrowdedError
            parts.append(self._part(self.partial, self.sent, tokens))
            budget -= tokens
        seats = self.seats - size - len(parts)
        while line and self.partial < 0 and budget > 0 and seats > 0:
            number = line[0]
            tokens = columns.prompts[number]
            needed = -(-tokens // block)
            if free < needed and not known:
                free, known = free + most - circle.held(1, block), True
            if columns.ready_s[number] > now_s or free < needed:
                break
            line.popleft()
            columns.begun_s[number] = now_s
            parts.append(self._part(number, 0, min(tokens, budget)))
            free -= needed
            budget -= tokens
            seats -= 1
        if self.seats - seats > self.most_seats:
            self.most_seats = self.seats - seats
        return parts

    def _part(self, number: int, sent: int, tokens: int) -> Part:
        completes = sent + tokens == self.columns.prompts[number]
        self.partial, self.sent = (-1, 0) if completes else (number, sent + tokens)
        return Part(number, sent, tokens, completes)

    def _fits(self) -> bool:
        """Whether a step now would have room for the first in line."""
        circle, block = self.circle, self.block
        needed = -(-self.columns.prompts[self.line[0]] // block)
        free = self.blocks - (circle.context + circle.size * block) // block
        enough = needed <= free or needed <= self.blocks - circle.held(0, block)
        return enough and circle.size < self.budget and circle.size < self.seats

    def _check_room(self, rounds: int) -> None:
        """Raises CrowdedError if there are not blocks enough for so many more steps."""
        if self.circle.held(rounds, self.block) > self.blocks:
            raise CrowdedError
