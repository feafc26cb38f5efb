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

import math
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from planner.core.cost.batch import leaning_tokens
from planner.sim.pace import Pace
from planner.sim.row import Row

Process = Generator[float, float, None]
"""Says when something happens next, and is told until when it may go on."""


class CrowdedError(Exception):
    """Blocks of cache have run out, so that somebody would be preempted."""


class Part(NamedTuple):
    """Some tokens of a prompt that are computed in one step."""

    number: int
    cached_tokens: int
    """Tokens of the prompt that were computed before."""
    tokens: int
    completes: bool


@dataclass(slots=True)
class Columns:
    """Requests in the order in which they come, and what becomes of them."""

    arrival_s: Sequence[float]
    ready_s: Sequence[float]
    """When they are tokenised."""
    prompts: Sequence[int]
    """Tokens, as those of answers."""
    outputs: Sequence[int]
    pipeline: array[int] = field(init=False)
    begun_s: array[float] = field(init=False)
    first_s: array[float] = field(init=False)
    last_s: array[float] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.arrival_s)
        self.pipeline = array("q", [-1]) * count
        self.begun_s, self.first_s, self.last_s = (array("d", [math.inf]) * count for _ in "123")


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
    ends: list[int] = field(default_factory=list)
    """A heap of who decodes: the step of the last token times all requests, plus the number."""
    lacks: list[int] = field(default_factory=list)
    """The same by steps less cached tokens; perhaps with some who have left, but not at the head.
    """
    row: Row = field(default_factory=Row)
    """Equal steps that are under way."""
    most_seats: int = 0
    happened: int = 0
    """Rows and steps with prompts."""

    def __post_init__(self) -> None:
        self.row.jitter_s = self.pace.jitter_s

    def serve(self) -> Process:
        """Serves who is put in line; raises CrowdedError.

        A sequence that joined at step j with c cached tokens has c + (steps - j) of them, so heaps
        tell who leaves next and who is the longest.
        """
        pace, line, row, runs, normals = self.pace, self.line, self.row, self.runs, self.normals
        ready_s, jitter_s = self.columns.ready_s, pace.jitter_s
        ends, lacks, many = self.ends, self.lacks, len(ready_s)
        # cached tokens as attention feels them are linear in their sum and the longest's
        evenly, longest = leaning_tokens(1, 1, 0, self.skew), leaning_tokens(1, 0, 1, self.skew)
        steps = size = context = counted = end = lack = 0
        now_s, until_s = 0.0, (yield math.inf)
        while True:
            parts: Sequence[Part] = ()
            waits = bool(line) and ready_s[line[0]] <= now_s
            if waits or self.partial >= 0:
                parts = self._admit(now_s, steps, size, context)
            felt = evenly * context + longest * size * (steps - lack)
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
                ends_s = self._steps(now_s, size, felt, end - steps)
                if (context + size * (row.rounds + self.block - 1)) // self.block > self.blocks:
                    self._check_room(steps, row.rounds)
                while True:
                    comes_s = math.inf if waits or not line else ready_s[line[0]]
                    if comes_s < ends_s and comes_s < until_s:
                        waits = True
                        if self._fits(steps, size, context):
                            row.cut(comes_s, normals)
                            ends_s = row.ends_s
                    elif ends_s < until_s:
                        break
                    else:
                        until_s = yield min(ends_s, comes_s)
                rounds = row.rounds
                self._pass(size, counted)
            else:
                comes_s = ready_s[line[0]] if line else math.inf
                while comes_s >= until_s:
                    until_s = yield comes_s
                    comes_s = ready_s[line[0]] if line else math.inf
                now_s = comes_s
                continue
            now_s = ends_s
            self.happened += 1
            if size:
                steps += rounds
                context += rounds * size
            if parts or steps == end:
                more, counting, cached = self._change(now_s, steps, parts)
                size, counted, context = size + more, counted + counting, context + cached
                if size:
                    end, lack = ends[0] // many, lacks[0] // many

    def _steps(self, now_s: float, size: int, felt: float, most: int) -> float:
        """Begins as many equal steps as there can be; when they end."""
        piece, row = self.pace.decode(size, felt), self.row
        rounds, slope_s = most, piece.growth_s
        if felt + most * size > piece.high:
            rounds = min(most, int((piece.high - felt) // size) + 1)
        step_s, growth_s = piece.step_s + slope_s * felt, slope_s * size
        if row.jitter_s:
            step_s += row.jitter_s * next(self.normals) / math.sqrt(rounds)
        ends_s = now_s + rounds * step_s + growth_s * (rounds * (rounds - 1) // 2)
        if ends_s < now_s:
            ends_s = now_s
        row.began_s, row.rounds, row.step_s, row.growth_s = now_s, rounds, step_s, growth_s
        row.ends_s, row.piece, row.context = ends_s, piece, felt
        return ends_s

    def _pass(self, size: int, counted: int) -> None:
        """Notes the steps of a row."""
        row, rounds = self.row, self.row.rounds
        piece, step_s = row.piece, row.step_s
        assert piece is not None
        piece.times += rounds
        piece.context += rounds * row.context + size * (rounds * (rounds - 1) // 2)
        if counted:
            last_s = step_s + (rounds - 1) * row.growth_s
            self.runs += (step_s, last_s, rounds * counted, row.jitter_s)

    def _change(self, now_s: float, steps: int, parts: Sequence[Part]) -> tuple[int, int, int]:
        """Lets go who has had the last token, and has those decode whose prompts are complete.

        How many more decode then, how many more of them count, and what more they have cached.
        """
        columns, ends, lacks, leave = self.columns, self.ends, self.lacks, self.leave
        prompts, outputs, last_s = columns.prompts, columns.outputs, columns.last_s
        size = counted = context = 0
        many, warmup = len(prompts), self.warmup
        while ends and ends[0] // many == steps:
            number = heappop(ends) % many
            last_s[number] = now_s
            size -= 1
            counted -= number >= warmup
            context -= prompts[number] + outputs[number] - 1
            leave()
        while lacks and last_s[lacks[0] % many] < math.inf:
            heappop(lacks)
        for number, _, _, completes in parts:
            if completes:
                columns.first_s[number] = now_s
                left, cached = outputs[number] - 1, prompts[number]
                if left:
                    heappush(ends, (steps + left) * many + number)
                    heappush(lacks, (steps - cached) * many + number)
                    size += 1
                    counted += number >= warmup
                    context += cached
                else:
                    last_s[number] = now_s
                    leave()
        return size, counted, context

    def _admit(self, now_s: float, steps: int, size: int, context: int) -> list[Part]:
        """Pieces of prompts for the next step, as far as seats, budget and blocks go."""
        columns, line, block = self.columns, self.line, self.block
        parts: list[Part] = []
        # nobody who decodes has more than a block beyond those that are full
        free, known = self.blocks - (context + size * block) // block, False
        budget = self.budget - size
        if self.partial >= 0:
            free, known = self.blocks - self._held(steps, 1), True
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
                taken = self.blocks - (context + size * block) // block - free
                free, known = self.blocks - self._held(steps, 1) - taken, True
            if columns.ready_s[number] > now_s or free < needed:
                break
            line.popleft()
            columns.begun_s[number] = now_s
            parts.append(self._part(number, 0, min(tokens, budget)))
            free -= needed
            budget -= tokens
            seats -= 1
        self.most_seats = max(self.most_seats, self.seats - seats)
        return parts

    def _part(self, number: int, sent: int, tokens: int) -> Part:
        completes = sent + tokens == self.columns.prompts[number]
        self.partial, self.sent = (-1, 0) if completes else (number, sent + tokens)
        return Part(number, sent, tokens, completes)

    def _fits(self, steps: int, size: int, context: int) -> bool:
        """Whether a step now would have room for the first in line."""
        needed = -(-self.columns.prompts[self.line[0]] // self.block)
        free = self.blocks - (context + size * self.block) // self.block
        enough = needed <= free or needed <= self.blocks - self._held(steps, 0)
        return enough and size < min(self.budget, self.seats)

    def _check_room(self, steps: int, rounds: int) -> None:
        """Raises CrowdedError if there are not blocks enough for so many more steps."""
        if self._held(steps, rounds) > self.blocks:
            raise CrowdedError

    def _held(self, steps: int, more: int) -> int:
        """Blocks of those who decode, after so many more steps."""
        columns, block, held = self.columns, self.block, 0
        for each in self.ends:
            end, number = divmod(each, len(columns.prompts))
            last = columns.prompts[number] + columns.outputs[number] - 1
            held += -(-(last - (end - steps) + more) // block)
        return held
