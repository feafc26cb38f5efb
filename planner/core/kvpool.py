"""KvPool: blocks of KV cache, and what is still in those that nobody holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True)
class KvPool:
    """Blocks that sequences take and give back, the least recently used one first.

    A block that was given back keeps its tokens until it is taken again. Of the blocks of one
    owner the last ones go first, so what remains is a prefix: vLLM's order of free blocks.
    """

    blocks: int
    block_tokens: int
    keeps: bool = True
    """Whether a prefix that is still there is used again."""
    free: int = field(init=False)
    least: int = field(init=False)
    """Fewest free blocks there ever were."""
    left: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    """Free blocks that hold a prefix, by owner, the longest unused first; perhaps with some that
    were taken since they were last asked for."""
    taken: int = 0
    """How many of them were, the longest unused first."""
    kept: int = 0
    """The others: with more of them than free blocks, the difference was taken since."""

    def __post_init__(self) -> None:
        self.least = self.blocks
        self.clear()

    def clear(self) -> None:
        """Frees everything and forgets what it held."""
        self.left.clear()
        self.free, self.kept, self.taken = self.blocks, 0, 0

    def holding(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_tokens)

    def take(self, blocks: int) -> None:
        """Takes free blocks, first those that hold nothing; there must be as many."""
        free = self.free = self.free - blocks
        if free < self.least:
            self.least = free

    def _reclaim(self) -> None:
        """Forgets prefixes of which blocks were taken."""
        left, taken = self.left, self.taken + max(0, self.kept - self.free)
        while taken > 0:
            owner, there = left.popitem(last=False)
            taken -= there
            if taken < 0:
                left[owner] = -taken
                left.move_to_end(owner, last=False)
        self.kept, self.taken = min(self.kept, self.free), 0

    def give_back(self, owner: Hashable, tokens: int) -> None:
        """Frees the blocks of a sequence with so many cached tokens."""
        kept, free, left = self.kept, self.free, self.left
        if kept > free:
            self.taken += kept - free
            kept = self.kept = free
        whole, rest = divmod(tokens, self.block_tokens)
        self.free = free + whole + 1 if rest else free + whole
        if whole and self.keeps:
            self.kept = kept + whole
            if self.taken > self.blocks or owner in left:
                self._reclaim()
                self.kept -= left.pop(owner, 0)
            left[owner] = whole

    def prefix_blocks(self, owner: Hashable, tokens: int) -> int:
        """Whole blocks of the first ``tokens`` tokens that are still there."""
        self._reclaim()
        return min(self.left.get(owner, 0), tokens // self.block_tokens)

    def claim(self, owner: Hashable, blocks: int) -> None:
        """Takes the first blocks of an owner's prefix with what they hold."""
        self._reclaim()
        self.kept -= self.left.pop(owner)
        self.free -= blocks
        self.least = min(self.least, self.free)
