"""Cohort: the sequences that decode together, known by their sums instead of one by one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from planner.core.cost.batch import leaning_tokens
from planner.core.gaps import Gaps
from planner.sim.row import Row
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
    """When the members had their last token."""
    fresh: list[Served] = field(default_factory=list)
    """Those who came at another time and have not had a step yet."""
    ends: list[tuple[int, int, Served]] = field(default_factory=list)
    """By the step that brings the last token, then by order of joining."""
    longest: list[tuple[int, int, Served]] = field(default_factory=list)
    """By what a member lacks to the number of steps, the longest first; perhaps with some who have
    left, but not at the head."""
    joins: int = 0

    def join(self, sequence: Served, now_s: float) -> None:
        """Takes in a sequence that has a token now and has more to come."""
        if not self.size:
            self.last_s = now_s
        elif self.last_s != now_s:
            self.fresh.append(sequence)
        steps, cached = self.steps, sequence.cached_tokens
        joins = self.joins = self.joins + 1
        self.size += 1
        self.counted += sequence.counts
        self.context += cached
        sequence.joined, sequence.cohort, sequence.joins = steps, self, joins
        heapq.heappush(self.ends, (steps + sequence.left, joins, sequence))
        heapq.heappush(self.longest, (steps - cached, joins, sequence))

    def leaning_tokens(self, skew: float) -> float:
        """Cached tokens as attention feels them, of which the longest member tells more."""
        if not skew or not self.size:
            return self.context
        return leaning_tokens(self.size, self.context, self.steps - self.longest[0][0], skew)

    def advance(self, first_s: float) -> None:
        """Lets a step pass that ends at ``first_s``."""
        last_s, old = self.last_s, self.counted
        if self.fresh:
            for sequence in self.fresh:
                if sequence.counts:
                    self.gaps.add(first_s - sequence.last_s)
                    old -= 1
            self.fresh.clear()
        if old:
            self.gaps.add(first_s - last_s, times=old)
        self.steps += 1
        self.context += self.size
        self.last_s = first_s

    def advance_row(self, row: Row, rounds: int) -> None:
        """Lets the first steps of a row pass."""
        ends_s = row.ends_s if rounds == row.rounds else row.after(rounds)
        first_s, growth_s = row.step_s, row.growth_s
        if self.fresh or self.last_s != row.began_s:
            self.advance(row.began_s + first_s)
            first_s += growth_s
            rounds -= 1
        if self.counted and rounds:
            latest_s = first_s + (rounds - 1) * growth_s
            self.gaps.add(first_s, latest_s, rounds * self.counted, row.jitter_s)
        self.steps += rounds
        self.context += rounds * self.size
        self.last_s = ends_s

    def finished(self) -> list[Served]:
        """Takes out those who have had their last token, in the order in which they joined."""
        ends, steps = self.ends, self.steps
        if not ends or ends[0][0] != steps:
            return []
        done = []
        while ends and ends[0][0] == steps:
            sequence = heapq.heappop(ends)[2]
            self._let_go(sequence)
            done.append(sequence)
        return done

    def remove(self, sequence: Served) -> None:
        """Takes out a sequence before its time."""
        self.ends = [end for end in self.ends if end[2] is not sequence]
        heapq.heapify(self.ends)
        if sequence in self.fresh:
            self.fresh.remove(sequence)
        self._let_go(sequence)

    def _let_go(self, sequence: Served) -> None:
        tokens = self.steps - sequence.joined
        if tokens:
            sequence.cached_tokens += tokens
            sequence.deliver(tokens, self.last_s)
        sequence.cohort = None
        self.size -= 1
        self.counted -= sequence.counts
        self.context -= sequence.cached_tokens
        longest = self.longest
        while longest:
            _, joins, first = longest[0]
            if first.joins == joins and first.cohort is self:
                break
            heapq.heappop(longest)

    def dissolve(self) -> None:
        """Lets everybody go, after what they have had is written down."""
        for _, _, sequence in self.ends:
            self._let_go(sequence)
        self.ends.clear()
        self.longest.clear()
        self.fresh.clear()
