"""Reuse: what prompts of sessions find in an engine's prefix cache, by what the workload says.

A turn finds the whole blocks of the turns before it that its pipeline still has. Blocks that nobody
holds are taken anew in the order in which they were given back. So a prefix is gone once as many
blocks were given back after it, and not claimed since, as are free: after a time that is the same
for all of them (Che, Tung and Wang 2002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from planner.core.problem import Problem
from planner.core.request import Request
from planner.core.workload import Workload

_HALVINGS = 100
_LONGEST_S = 1e12


@dataclass(frozen=True, slots=True)
class Reuse:
    """What the turns of a workload leave behind, and find where nothing is lost."""

    found_tokens: float
    """Tokens of a prompt that are found where all is kept, first turns included."""
    taken_up_blocks: float
    """Blocks that a request leaves and a later turn claims."""
    left_blocks: float
    """Blocks that nobody will ask for again."""
    running_blocks: float
    """Blocks of a request that runs, half its answer given."""
    prompt_tokens: float
    squares: tuple[float, float]
    """Mean square of the tokens that are computed of a prompt: where all is kept, and nothing."""
    think_s: float

    def unevenness(self, found_tokens: float) -> float:
        """Squared coefficient of variation of what is computed where so many tokens are found."""
        kept = found_tokens / self.found_tokens if self.found_tokens else 1.0
        square = kept * self.squares[0] + (1 - kept) * self.squares[1]
        return square / (self.prompt_tokens - found_tokens) ** 2 - 1

    @property
    def least_unevenness(self) -> float:
        """The same whatever is found: a line over a falling square is least at one of its ends."""
        return max(0.0, min(self.unevenness(0.0), self.unevenness(self.found_tokens)))

    def found_after(self, requests_per_s: float, free_blocks: float) -> float:
        """Tokens of a prompt that are found with so many blocks that nobody holds."""
        if not self.think_s or not requests_per_s:
            return self.found_tokens
        low_s, high_s = 0.0, _LONGEST_S
        for _ in range(_HALVINGS):
            middle_s = (low_s + high_s) / 2 if high_s < _LONGEST_S else max(1.0, 2 * low_s)
            if requests_per_s * self._given_back(middle_s) < free_blocks:
                low_s = middle_s
            else:
                high_s = middle_s
            if middle_s >= _LONGEST_S:
                return self.found_tokens
        return self.found_tokens * -math.expm1(-low_s / self.think_s)

    def _given_back(self, since_s: float) -> float:
        """Block seconds that a request leaves behind and are not claimed, up to that age."""
        waiting_s = self.think_s * -math.expm1(-since_s / self.think_s)
        return self.taken_up_blocks * waiting_s + self.left_blocks * since_s


def reuse(problem: Problem, share: float) -> Reuse | None:
    """Reuse on a pipeline that gets that share of the requests; None where there is no cache."""
    engine, workload = problem.engine, problem.workload
    if not (problem.continuous and engine.prefix_cache) or workload.sessions is None:
        return None
    stays = 1.0 if problem.serving.sticky_sessions else share
    return _of(workload, engine.kv_block_tokens, stays)


@lru_cache(maxsize=64)
def _of(workload: Workload, block: int, stays: float) -> Reuse:
    turns = {one.id: one for one in workload.turns}
    followed = {one.after for one in turns.values()}
    found = taken_up = left = running = computed = whole = 0.0
    for one in turns.values():
        there = _found(turns, one, block, stays)
        found += there
        computed += (one.prompt_tokens - there) ** 2
        whole += one.prompt_tokens**2
        kept = (one.prompt_tokens + one.output_tokens - 1) // block
        back = stays if one.id in followed else 0.0
        taken_up += back * kept
        left += (1 - back) * kept
        running += (one.prompt_tokens + one.output_tokens / 2) / block
    count = len(turns)
    think_s = workload.sessions.think_s if workload.sessions else 0.0
    return Reuse(
        found / count,
        taken_up / count,
        left / count,
        running / count,
        sum(one.prompt_tokens for one in turns.values()) / count,
        (computed / count, whole / count),
        think_s,
    )


def _found(turns: dict[int, Request], one: Request, block: int, stays: float) -> float:
    """Tokens of earlier turns that a turn finds, the last of them on its pipeline counting."""
    found, here = 0.0, 1.0
    before = one.after
    while before is not None and here > 1e-9:
        earlier = turns[before]
        cached = earlier.prompt_tokens + earlier.output_tokens - 1
        found += here * stays * (cached // block * block)
        here *= 1 - stays
        before = earlier.after
    return found
