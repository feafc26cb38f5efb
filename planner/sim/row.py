"""Row: equal decode steps of a pipeline with a single group, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from planner.core.schedule import Job
from planner.sim.pace import Load, Piece
from planner.sim.served import Served

_SURELY = 6.0
"""Standard deviations beyond which a random walk never is."""


@dataclass(slots=True, eq=False)
class Row:
    """Steps whose times are an arithmetic series, as each adds as many cached tokens.

    Or a single step that decided who is in it, such as one with pieces of prompts. A lane has one,
    which it uses again and again: with no rounds, nothing of the kind is under way.
    """

    began_s: float = 0.0
    rounds: int = 0
    step_s: float = 0.0
    """Time of the first step, with the mean of what is drawn."""
    growth_s: float = 0.0
    """What every step takes more than the one before."""
    jitter_s: float = 0.0
    """Standard deviation of a single step where latencies are drawn."""
    ends_s: float = 0.0
    piece: Piece | None = None
    """What the steps lie on, and the cached tokens of the first one."""
    context: float = 0.0
    job: Job[Served] | None = None
    """What the single step does, and what it asks of the places."""
    load: Load | None = None

    def after(self, rounds: int) -> float:
        """When so many steps are over."""
        return self.began_s + rounds * self.step_s + self.growth_s * (rounds * (rounds - 1) // 2)

    def cut(self, now_s: float, normals: Iterator[float]) -> None:
        """Shortens it to the first step that ends now or later.

        Latencies that were drawn for the whole row become those of its first steps: a random walk
        of which the end is known (a Brownian bridge). Where the walk may be on the other side of
        ``now_s``, it is drawn where it is surely past, and followed back step by step: who comes
        at some time meets long steps more often.
        """
        rounds, earlier_s, at_s = self._around(now_s)
        jitter_s = self.jitter_s
        if jitter_s:
            before, mean_s = self.rounds, at_s
            off_s = _SURELY * jitter_s * math.sqrt(before)
            if not earlier_s + off_s < now_s < at_s - off_s:
                rounds, at_s = self._walked(now_s, rounds, normals)
                mean_s = self.after(rounds)
            elif rounds < before:
                at_s += jitter_s * math.sqrt(rounds * (before - rounds) / before) * next(normals)
            self.step_s += (at_s - mean_s) / rounds
        self.rounds = rounds
        self.ends_s = at_s if at_s > now_s else now_s

    def _walked(self, now_s: float, rounds: int, normals: Iterator[float]) -> tuple[int, float]:
        """The first step that ends now or later, and when it does, near the end of a step."""
        before, off_s = self.rounds, 2 * self.jitter_s * math.sqrt(self.rounds)
        steps = 1 + math.ceil(off_s / self.step_s) if self.step_s > 0 else before
        rounds = min(before, rounds + steps)
        bridge = math.sqrt(rounds * (before - rounds) / before)
        at_s = self.after(rounds) + self.jitter_s * bridge * next(normals)
        while rounds > 1:
            earlier_s = at_s - self.single_s(rounds) - self.jitter_s * next(normals)
            if earlier_s < now_s:
                break
            at_s, rounds = earlier_s, rounds - 1
        return rounds, max(now_s, at_s)

    def single_s(self, number: int) -> float:
        """Time of one step, on average."""
        return self.step_s + (number - 1) * self.growth_s

    def rounds_until(self, now_s: float) -> int:
        """Steps until one ends now or later."""
        return self._around(now_s)[0]

    def _around(self, now_s: float) -> tuple[int, float, float]:
        """The same, and when the step before and that one end: the root of a quadratic."""
        began_s, step_s, growth_s, most = self.began_s, self.step_s, self.growth_s, self.rounds
        half = growth_s / 2
        first_s = step_s - half
        passed_s = now_s - began_s
        # half n^2 + first n = passed, in the form that does not cancel where half is small
        root = 2 * passed_s / (first_s + math.sqrt(first_s * first_s + 4 * half * passed_s))
        rounds = math.ceil(root)
        rounds = most if rounds > most else max(1, rounds)
        at_s = self.after(rounds)
        earlier_s = at_s - step_s - (rounds - 1) * growth_s
        while rounds > 1 and earlier_s >= now_s:
            rounds -= 1
            earlier_s, at_s = self.after(rounds - 1), earlier_s
        while rounds < most and at_s < now_s:
            rounds += 1
            earlier_s, at_s = at_s, self.after(rounds)
        return rounds, earlier_s, at_s
