"""Circle: requests that decode together, as numbers in columns, known by their sums."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from operator import mul
from typing import NamedTuple

from planner.core.kvpool import KvPool


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

    ready_s: array[float]
    """When they are tokenised."""
    prompts: array[int]
    """Tokens that are to be computed first, and those that follow: of who was preempted, what it
    had of its answer is among the first."""
    outputs: array[int]
    pipeline: array[int] = field(init=False)
    begun_s: array[float] = field(init=False)
    first_s: array[float] = field(init=False)
    last_s: array[float] = field(init=False)
    """When they had the last token, or, while they are preempted, the latest one."""

    def __post_init__(self) -> None:
        count = len(self.ready_s)
        self.pipeline = array("q", [-1]) * count
        self.begun_s, self.first_s, self.last_s = (array("d", [inf]) * count for _ in "123")


@dataclass(slots=True)
class Circle:
    """Requests of which each gets a token in every step.

    One that joined at step j with c cached tokens has c + (steps - j) of them, so heaps tell who
    leaves next and who is the longest.
    """

    columns: Columns
    warmup: int
    """Leading requests that do not count."""
    leave: Callable[[], None]
    """Told of everybody who has had the last token."""
    runs: list[float]
    """Gaps between tokens, as ``core/gaps.py`` keeps them."""
    block: int
    """Tokens of a block of cache."""
    steps: int = 0
    size: int = 0
    counted: int = 0
    """Those of them who count."""
    context: int = 0
    """Cached tokens of all of them."""
    phases: list[int] = field(init=False)
    """How many there are by steps less cached tokens, modulo the size of a block."""
    pool: KvPool | None = None
    """Blocks of cache, while somebody waits whose prefix may still be in them."""
    end: int = 0
    """Of some of them, the step that brings the last token first."""
    lack: int = 0
    """Steps less the cached tokens of the longest."""
    ends: list[int] = field(default_factory=list)
    """A heap of all: the step of the last token times all requests that come, plus the number."""
    lacks: list[int] = field(default_factory=list)
    """The same by steps less cached tokens; perhaps with some who have left, but not at the head.
    """

    def __post_init__(self) -> None:
        self.phases = [0] * self.block

    def pass_steps(self, rounds: int, now_s: float) -> None:
        """Lets steps pass, the last of them until now, and those go who have had all tokens."""
        steps = self.steps = self.steps + rounds
        self.context += rounds * self.size
        if steps < self.end:
            return
        columns, ends, lacks, leave = self.columns, self.ends, self.lacks, self.leave
        prompts, outputs, last_s = columns.prompts, columns.outputs, columns.last_s
        phases, block, pool = self.phases, self.block, self.pool
        many, warmup = len(prompts), self.warmup
        while ends and ends[0] // many == steps:
            number = heappop(ends) % many
            cached = prompts[number] + outputs[number] - 1
            last_s[number] = now_s
            self.size -= 1
            self.counted -= number >= warmup
            self.context -= cached
            phases[(steps - cached) % block] -= 1
            if pool is not None:
                pool.give_back(number, cached)
            leave()
        while lacks and last_s[lacks[0] % many] < inf:
            heappop(lacks)
        if ends:
            self.end, self.lack = ends[0] // many, lacks[0] // many

    def join(self, parts: Sequence[Part], now_s: float) -> None:
        """Takes in whose prompts are complete now, which brings the first token."""
        columns, ends, lacks, steps = self.columns, self.ends, self.lacks, self.steps
        prompts, last_s, many = columns.prompts, columns.last_s, len(columns.prompts)
        for number, _, _, completes in parts:
            if not completes:
                continue
            if last_s[number] == inf:
                columns.first_s[number] = now_s
            else:
                self._go_on(number, now_s)
            left, cached = columns.outputs[number] - 1, prompts[number]
            if left:
                heappush(ends, (steps + left) * many + number)
                heappush(lacks, (steps - cached) * many + number)
                self.size += 1
                self.counted += number >= self.warmup
                self.context += cached
                self.phases[(steps - cached) % self.block] += 1
                self.end, self.lack = ends[0] // many, lacks[0] // many
            else:
                last_s[number] = now_s
                if self.pool is not None:
                    self.pool.give_back(number, cached)
                self.leave()

    def _go_on(self, number: int, now_s: float) -> None:
        """Notes how long one that was preempted waited for its next token."""
        last_s = self.columns.last_s
        if number >= self.warmup:
            gap_s = now_s - last_s[number]
            self.runs += (gap_s, gap_s, 1, 0.0)
        last_s[number] = inf

    def preempt(self, now_s: float) -> int:
        """Takes out who came last, to be computed anew: its number, the highest of all."""
        columns, many = self.columns, len(self.columns.prompts)
        prompts, outputs, last_s = columns.prompts, columns.outputs, columns.last_s
        last = max(self.ends, key=lambda each: each % many)
        end, number = divmod(last, many)
        left = end - self.steps
        prompts[number] += outputs[number] - left
        outputs[number], last_s[number] = left, now_s
        cached = prompts[number] - 1
        self.ends.remove(last)
        self.lacks = [each for each in self.lacks if last_s[each % many] == inf]
        heapify(self.ends)
        heapify(self.lacks)
        self.end, self.lack = self.ends[0] // many, self.lacks[0] // many
        self.size -= 1
        self.counted -= number >= self.warmup
        self.context -= cached
        self.phases[(self.steps - cached) % self.block] -= 1
        if self.pool is not None:
            self.pool.give_back(number, cached)
        return number

    def held(self, more: int) -> int:
        """Blocks that they hold after so many more steps."""
        phase = (self.steps + more) % self.block
        # who is in the n-th phase from this one lacks n tokens to fill the last block
        empty: int = sum(map(mul, self.phases[phase:] + self.phases[:phase], range(self.block)))
        return (self.context + more * self.size + empty) // self.block
