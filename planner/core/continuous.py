"""ContinuousSchedule: vLLM's rules for what a pipeline does next.

In every step each running sequence that is complete gets its next token, and what is left of the
step's budget of tokens goes to prompts, first come first served, a prompt perhaps in pieces. KV
cache is handed out in blocks as it is needed; where it runs out, the sequence that came last gives
its blocks back and begins anew at the head of the line. Nobody knows how long an answer becomes.

Source: ``Scheduler.schedule`` and ``KVCacheManager.allocate_slots`` of vLLM 0.19 (V1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from planner.core.kvpool import KvPool
from planner.core.schedule import Job, Piece, Seated


class Cached(Seated, Protocol):
    """A request whose place in the cache changes."""

    cached_tokens: int

    @property
    def known_tokens(self) -> int:
        """Tokens of its prompt and its answer so far."""

    @property
    def computed_tokens(self) -> int:
        """Of these, tokens that are in the cache."""

    @property
    def shared_tokens(self) -> int:
        """Leading tokens that the owner's last sequence had as well."""

    @property
    def owner(self) -> Hashable:
        """Whose prefix it can use again: a session's, or its own."""


C = TypeVar("C", bound=Cached)


class ContinuousSchedule(Generic[C]):
    """Running sequences, blocks and the waiting line of one pipeline."""

    def __init__(self, seats: int, groups: int, budget_tokens: int, pool: KvPool) -> None:
        self.pool = pool
        self.most_tokens: int | None = pool.blocks * pool.block_tokens
        self.preempted: list[C] = []
        """Who gave their blocks back in the last decision."""
        self.asked_tokens = self.reused_tokens = 0
        """Tokens of all who were admitted, and those of them that were still in the cache."""
        self.seats, self.budget = seats, max(budget_tokens, seats)
        self._waiting: deque[C] = deque()
        self._running: list[list[C]] = [[] for _ in range(groups)]
        self._single = groups == 1
        self._partial: C | None = None
        """Who has a prompt of which more is to be sent, in no group yet; always who came last."""
        self._sent = self._flying = 0
        """Tokens of that prompt that were sent, and pieces of it that are under way."""
        self._under_way = [0] * groups
        self._steps = [0] * groups
        self._phase = [[0] * pool.block_tokens for _ in range(groups)]
        """By group: decoding sequences by (steps - cached tokens) modulo the size of a block: those
        that need one in every step of that remainder."""

    @property
    def seated(self) -> list[C]:
        """Sequences that run, group by group."""
        partial = () if self._partial is None else (self._partial,)
        return [*(sequence for group in self._running for sequence in group), *partial]

    @property
    def waiting(self) -> list[C]:
        """Sequences that do not run, in the order of the line."""
        return list(self._waiting)

    @property
    def occupied(self) -> int:
        """How many run."""
        decoding = len(self._running[0]) if self._single else sum(map(len, self._running))
        return decoding if self._partial is None else decoding + 1

    @property
    def fault(self) -> str | None:
        """What is wrong with its memory: blocks that were given away twice, or never came back."""
        pool = self.pool
        if pool.least < 0:
            return f"gave away {-pool.least} KV blocks that it does not have"
        if self.idle and pool.free != pool.blocks:
            return f"lacks {pool.blocks - pool.free} KV blocks that nobody holds"
        return None

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing runs."""
        return not self._waiting and self._partial is None and not any(self._running)

    def admits(self, group: int = 0) -> bool:
        """Whether somebody waits for whom a step of a group now would have room."""
        if self._partial is not None or not self._waiting:
            return False
        left = self.budget - len(self._running[group])
        return self._fits(self._waiting[0], left, self._waiting[0].known_tokens) is not None

    def add(self, sequence: C) -> None:
        """Puts a sequence at the end of the line."""
        self._waiting.append(sequence)

    def withdraw(self, sequence: C) -> bool:
        """Takes a sequence out of the line; False if it is not waiting."""
        if sequence not in self._waiting:
            return False
        self._waiting.remove(sequence)
        return True

    def leave(self, sequence: C) -> None:
        """Frees the place and the blocks of a finished sequence."""
        self._running[sequence.group].remove(sequence)
        self._forget(sequence)

    def evict(self) -> list[C]:
        """Empties the pipeline: everybody who was in it, those who ran first."""
        everyone = [*self.seated, *self._waiting]
        groups, block = len(self._running), self.pool.block_tokens
        self.pool.clear()
        self._waiting.clear()
        self._running = [[] for _ in range(groups)]
        self._partial, self._sent, self._flying = None, 0, 0
        self._under_way = [0] * groups
        self._phase = [[0] * block for _ in range(groups)]
        return everyone

    def back(self, job: Job[C]) -> None:
        """Notes that a step is over; prompts that are complete decode from now on."""
        group = job.group
        self._under_way[group] -= 1
        for piece in job.pieces:
            if piece.completes:
                self._count(group, piece.cached_tokens + piece.tokens, 1)
            elif piece.sequence is self._partial:
                self._flying -= 1

    def next_jobs(self) -> list[Job[C]]:
        """A step for every group that has none under way."""
        self.preempted = []
        jobs = []
        for group, under_way in enumerate(self._under_way):
            if not under_way:
                job = self._step(group)
                if job is not None:
                    jobs.append(job)
        return jobs

    def steady_steps(self, group: int, most: int) -> int:
        """How many decode steps of a group can follow from now on if nobody comes or leaves.

        ``most`` at most; none where somebody is to be admitted first, or a prompt goes on.
        """
        if self._partial is not None or (self._waiting and self.admits(group)):
            return 0
        running, free, block = len(self._running[group]), self.pool.free, self.pool.block_tokens
        steps = block * (free // running)
        if steps >= most:
            return most
        free %= running
        while steps < most:
            free -= self._needed(group, steps)
            if free < 0:
                break
            steps += 1
        return steps

    def repeat(self, group: int, steps: int) -> None:
        """Notes that so many decode steps of a group have passed."""
        before, phase = self._steps[group], self._phase[group]
        self._steps[group] = before + steps
        block = len(phase)
        start = before % block
        stop = start + steps
        if stop <= block:
            blocks = sum(phase[start:stop])
        else:
            times, rest = divmod(stop, block)
            blocks = sum(phase[start:]) + sum(phase[:rest])
            blocks += (times - 1) * len(self._running[group])
        if blocks:
            self.pool.take(blocks)

    def goes_on(self, group: int) -> bool:
        """Begins another decode step of a group, if there is room and nobody to be admitted."""
        if self._partial is not None or (self._waiting and self.admits(group)):
            return False
        needed = self._needed(group)
        if needed:
            if needed > self.pool.free:
                return False
            self.pool.take(needed)
        self._steps[group] += 1
        return True

    def decode(self, group: int) -> Job[C]:
        """Begins a decode step of a group, for which there is room."""
        self.repeat(group, 1)
        self._under_way[group] += 1
        return Job("decode", group, tuple(self._running[group]))

    def _needed(self, group: int, step: int = 0) -> int:
        """Decoding sequences that need a block in the step after ``step`` more."""
        return self._phase[group][(self._steps[group] + step) % self.pool.block_tokens]

    def _count(self, group: int, cached_tokens: int, by: int) -> None:
        phase = self._phase[group]
        phase[(self._steps[group] - cached_tokens) % len(phase)] += by

    def _forget(self, sequence: C) -> None:
        """Gives back what a sequence that does not run any more had."""
        computed = sequence.computed_tokens
        if self._partial is sequence:
            self._partial = None
        else:
            self._count(sequence.group, computed, -1)
        self.pool.give_back(sequence.owner, computed)

    def _preempt(self, group: int) -> None:
        """Sends the sequence that came last back to the head of the line.

        Of those that are not under way: a prompt whose pieces are is left alone.
        """
        partial = None if self._flying else self._partial
        victim = self._running[group].pop() if partial is None else partial
        self._forget(victim)
        self._waiting.appendleft(victim)
        self.preempted.append(victim)

    def _step(self, group: int) -> Job[C] | None:
        running, pool = self._running[group], self.pool
        needed = self._needed(group)
        if needed:
            while needed > pool.free:
                self._preempt(group)
                needed = self._needed(group)
            pool.take(needed)
        partial, decoding = self._partial, tuple(running)
        budget = self.budget - len(decoding)
        pieces: list[Piece[C]] = []
        if partial is not None:
            budget -= self._go_on(group, partial, budget, pieces)
        if self._waiting and self._partial is None and not self.preempted:
            self._admit(group, budget, pieces)
        if not decoding and not pieces:
            return None
        if decoding:
            self._steps[group] += 1
        self._under_way[group] += 1
        return Job("prefill" if pieces else "decode", group, decoding, tuple(pieces))

    def _go_on(self, group: int, partial: C, budget: int, pieces: list[Piece[C]]) -> int:
        """Tokens of a prompt's next piece, also while earlier ones are under way.

        It is preempted where there are no blocks for it.
        """
        pool, sent = self.pool, self._sent
        tokens = min(partial.known_tokens - sent, budget)
        blocks = pool.holding(sent + tokens) - pool.holding(sent)
        if blocks > pool.free:
            if not self._flying:
                self._preempt(group)
            return 0
        pool.take(blocks)
        partial.group, self._sent = group, sent + tokens
        done = self._sent == partial.known_tokens
        if done:
            self._partial = None
            self._running[group].append(partial)
        else:
            self._flying += 1
        pieces.append(Piece(partial, sent, tokens, done))
        return tokens

    def _admit(self, group: int, budget: int, pieces: list[Piece[C]]) -> None:
        """Takes prompts from the line as far as seats, budget and blocks go."""
        pool, waiting = self.pool, self._waiting
        block = pool.block_tokens
        while waiting:
            sequence = waiting[0]
            known = sequence.known_tokens
            hit = self._fits(sequence, budget, known)
            if hit is None:
                break
            waiting.popleft()
            if hit:
                pool.claim(sequence.owner, hit)
            cached = hit * block
            self.asked_tokens += known
            self.reused_tokens += cached
            tokens = known - cached
            done = tokens <= budget
            if done:
                self._running[group].append(sequence)
            else:
                tokens = budget
                self._partial, self._sent, self._flying = sequence, cached + tokens, 1
            pool.take(-(-(cached + tokens) // block) - hit)
            sequence.cached_tokens, sequence.group = cached, group
            pieces.append(Piece(sequence, cached, tokens, done))
            budget -= tokens

    def _fits(self, sequence: C, budget: int, known: int) -> int | None:
        """Blocks of its prefix that are still there, if the first in line can run; or None.

        It has to fit as a whole, even if it is computed in pieces (``scheduler_reserve_full_isl``).
        """
        occupied = len(self._running[0]) if self._single else self.occupied
        if budget <= 0 or occupied >= self.seats:
            return None
        pool, shared = self.pool, sequence.shared_tokens
        if -(-known // pool.block_tokens) > pool.free:
            return None
        return pool.prefix_blocks(sequence.owner, min(known - 1, shared)) if shared else 0
