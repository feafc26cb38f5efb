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
    """Free blocks that hold nothing anybody could ask for."""
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
        self.free -= blocks
        if self.free < self.least:
            self.least = self.free
        if blocks <= self.unused:
            self.unused -= blocks
            return
        blocks -= self.unused
        self.unused = 0
        while blocks:
            owner, there = next(iter(self.left.items()))
            if there > blocks:
                self.left[owner] = there - blocks
                return
            del self.left[owner]
            blocks -= there

    def give_back(self, owner: Hashable, tokens: int) -> None:
        """Frees the blocks of a sequence with so many cached tokens."""
        blocks = self.holding(tokens)
        self.free += blocks
        kept = tokens // self.block_tokens if self.keeps else 0
        self.unused += blocks - kept
        if kept:
            self.unused += self.left.pop(owner, 0)
            self.left[owner] = kept

    def prefix_blocks(self, owner: Hashable, tokens: int) -> int:
        """Whole blocks of the first ``tokens`` tokens that are still there."""
        return min(self.left.get(owner, 0), tokens // self.block_tokens)

    def claim(self, owner: Hashable, blocks: int) -> None:
        """Takes the first blocks of an owner's prefix with what they hold."""
        self.unused += self.left.pop(owner) - blocks
        self.free -= blocks
        self.least = min(self.least, self.free)
