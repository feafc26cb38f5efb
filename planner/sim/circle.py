"""Circle: requests that decode together, as numbers in columns, known by their sums."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple


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
    steps: int = 0
    size: int = 0
    counted: int = 0
    """Those of them who count."""
    context: int = 0
    """Cached tokens of all of them."""
    end: int = 0
    """Of some of them, the step that brings the last token first."""
    lack: int = 0
    """Steps less the cached tokens of the longest."""
    ends: list[int] = field(default_factory=list)
    """A heap of all: the step of the last token times all requests that come, plus the number."""
    lacks: list[int] = field(default_factory=list)
    """The same by steps less cached tokens; perhaps with some who have left, but not at the head.
    """

    def pass_steps(self, rounds: int, now_s: float) -> None:
        """Lets steps pass, the last of them until now, and those go who have had all tokens."""
        steps = self.steps = self.steps + rounds
        self.context += rounds * self.size
        if steps < self.end:
            return
        columns, ends, lacks, leave = self.columns, self.ends, self.lacks, self.leave
        prompts, outputs, last_s = columns.prompts, columns.outputs, columns.last_s
        many, warmup = len(prompts), self.warmup
        while ends and ends[0] // many == steps:
            number = heappop(ends) % many
            last_s[number] = now_s
            self.size -= 1
            self.counted -= number >= warmup
            self.context -= prompts[number] + outputs[number] - 1
            leave()
        while lacks and last_s[lacks[0] % many] < inf:
            heappop(lacks)
        if ends:
            self.end, self.lack = ends[0] // many, lacks[0] // many

    def join(self, parts: Sequence[Part], now_s: float) -> None:
        """Takes in whose prompts are complete now, which brings the first token."""
        columns, ends, lacks, steps = self.columns, self.ends, self.lacks, self.steps
        prompts, many = columns.prompts, len(columns.prompts)
        for number, _, _, completes in parts:
            if not completes:
                continue
            columns.first_s[number] = now_s
            left, cached = columns.outputs[number] - 1, prompts[number]
            if left:
                heappush(ends, (steps + left) * many + number)
                heappush(lacks, (steps - cached) * many + number)
                self.size += 1
                self.counted += number >= self.warmup
                self.context += cached
                self.end, self.lack = ends[0] // many, lacks[0] // many
            else:
                columns.last_s[number] = now_s
                self.leave()

    def held(self, more: int, block: int) -> int:
        """Blocks of so many tokens that they hold after so many more steps."""
        columns, steps, blocks = self.columns, self.steps, 0
        for each in self.ends:
            end, number = divmod(each, len(columns.prompts))
            last = columns.prompts[number] + columns.outputs[number] - 1
            blocks += -(-(last - (end - steps) + more) // block)
        return blocks
