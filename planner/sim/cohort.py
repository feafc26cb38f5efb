"""Cohort: the sequences that decode together, known by their sums instead of one by one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from planner.core.gaps import Gaps
from planner.sim.served import Served


@dataclass(slots=True)
class Cohort:
    """Sequences that all get a token per step.

    A sequence that joined at step j with c cached tokens has c + (steps - j) of them; so the sum
    over all of them, the next one to finish and every gap follow from the number of steps.
    """

    gaps: Gaps
    steps: int = 0
    size: int = 0
    counted: int = 0
    """Members that enter the metrics."""
    context: int = 0
    """Cached tokens of all members."""
    last_s: float = 0.0
    """When the members had their last token; those in ``fresh`` had it at another time."""
    fresh: list[tuple[float, bool]] = field(default_factory=list)
    """When those who have not had a step yet had their last token, and whether they count."""
    ends: list[tuple[int, int, Served]] = field(default_factory=list)
    """By the step that brings the last token, then by order of joining."""
    joins: int = 0

    def join(self, sequence: Served, now_s: float) -> None:
        """Takes in a sequence that had a token now and has more to come."""
        self.size += 1
        self.counted += sequence.counts
        self.context += sequence.cached_tokens
        self.joins += 1
        sequence.joined = self.steps
        heapq.heappush(self.ends, (self.steps + sequence.left, self.joins, sequence))
        self.fresh.append((now_s, sequence.counts))

    @property
    def steps_left(self) -> int:
        """Steps until the first member finishes."""
        return self.ends[0][0] - self.steps

    def advance(self, rounds: int, first_s: float, grows_s: tuple[float, float]) -> None:
        """Lets ``rounds`` steps pass, of which the first one ended at ``first_s``.

        ``grows_s`` are the times of the second and of the last step, which grow evenly.
        """
        old = self.counted
        for last_s, counts in self.fresh:
            if counts:
                self.gaps.add(first_s - last_s, first_s - last_s, 1)
                old -= 1
        if old:
            self.gaps.add(first_s - self.last_s, first_s - self.last_s, old)
        if rounds > 1 and self.counted:
            self.gaps.add(*grows_s, (rounds - 1) * self.counted)
        self.fresh.clear()
        self.steps += rounds
        self.context += rounds * self.size

    def finished(self) -> Iterator[Served]:
        """Takes out those who have had their last token, in the order in which they joined."""
        while self.ends and self.ends[0][0] == self.steps:
            sequence = heapq.heappop(self.ends)[2]
            self._settle(sequence)
            self.size -= 1
            self.counted -= sequence.counts
            self.context -= sequence.cached_tokens
            yield sequence

    def settle(self) -> None:
        """Writes down what every member has had so far."""
        for _, _, sequence in self.ends:
            if sequence.joined < self.steps:
                self._settle(sequence)

    def _settle(self, sequence: Served) -> None:
        tokens = self.steps - sequence.joined
        record = sequence.record
        sequence.cached_tokens += tokens
        sequence.left -= tokens
        sequence.joined = self.steps
        record.delivered = record.output_tokens + tokens
        record.token_s[1:] = [self.last_s]

    def dissolve(self) -> None:
        """Lets everybody go, after what they have had is written down."""
        self.settle()
        self.ends.clear()
        self.fresh.clear()
        self.size = self.counted = self.context = 0
