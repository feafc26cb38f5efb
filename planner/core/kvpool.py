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
    unused: int = field(init=False)
    """Free blocks that hold nothing anybody could ask for; below zero, that many of ``left`` were
    taken meanwhile."""
    left: OrderedDict[Hashable, int] = field(default_factory=OrderedDict)
    """Free blocks that hold a prefix, by owner, the longest unused first."""

    def __post_init__(self) -> None:
        self.least = self.blocks
        self.clear()

    def clear(self) -> None:
        """Frees everything and forgets what it held."""
        self.left.clear()
        self.free = self.unused = self.blocks

    def holding(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_tokens)

    def take(self, blocks: int) -> None:
        """Takes free blocks; there must be as many."""
        free = self.free = self.free - blocks
        if free < self.least:
            self.least = free
        self.unused -= blocks

    def _reclaim(self) -> None:
        """Forgets prefixes of which blocks were taken since they were last asked for."""
        left, unused = self.left, self.unused
        while unused < 0:
            owner, there = left.popitem(last=False)
            unused += there
            if unused > 0:
                left[owner], unused = unused, 0
                left.move_to_end(owner, last=False)
        self.unused = unused

    def give_back(self, owner: Hashable, tokens: int) -> None:
        """Frees the blocks of a sequence with so many cached tokens."""
        if self.unused < 0:
            self._reclaim()
        blocks = -(-tokens // self.block_tokens)
        self.free += blocks
        kept = tokens // self.block_tokens if self.keeps else 0
        self.unused += blocks - kept
        if kept:
            self.unused += self.left.pop(owner, 0)
            self.left[owner] = kept

    def prefix_blocks(self, owner: Hashable, tokens: int) -> int:
        """Whole blocks of the first ``tokens`` tokens that are still there."""
        if self.unused < 0:
            self._reclaim()
        return min(self.left.get(owner, 0), tokens // self.block_tokens)

    def claim(self, owner: Hashable, blocks: int) -> None:
        """Takes the first blocks of an owner's prefix with what they hold."""
        if self.unused < 0:
            self._reclaim()
        self.unused += self.left.pop(owner) - blocks
        self.free -= blocks
        self.least = min(self.least, self.free)
