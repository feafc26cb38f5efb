"""Batch: the common currency of planner, simulator and runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens one step computes, and the cached tokens they look at.

    The planner asks with expected values, which need not be whole numbers.
    """

    phase: Phase
    sequences: float
    new_tokens: float
    """Tokens computed in the step, over all sequences."""
    context_tokens: float
    """Tokens already in the KV cache, over all sequences."""
    silent: bool = False
    """Whether more of the prompt follows in another job, so that no token is asked for."""
    beside: bool = False
    """Whether a prompt goes with a step of sequences that decode."""

    @classmethod
    def prefill(
        cls, tokens: float, cached: float = 0.0, *, silent: bool = False, beside: bool = False
    ) -> Batch:
        """One sequence whose next ``tokens`` prompt tokens are computed."""
        return cls("prefill", 1, tokens, cached, silent, beside)

    @classmethod
    def decode(cls, sequences: float, context_tokens: float, each: int = 1) -> Batch:
        """``each`` new tokens for each of ``sequences`` sequences with that much context in all."""
        return cls("decode", sequences, sequences * each, context_tokens)

    @classmethod
    def uneven(
        cls, sequences: float, context_tokens: float, longest: float, skew: float, each: int = 1
    ) -> Batch:
        """A decode step of sequences of unlike length, as long as it takes attention's kernels."""
        if skew:
            context_tokens = leaning_tokens(sequences, context_tokens, longest, skew)
        return cls.decode(sequences, context_tokens, each)

    def chunks(self, size: int | None) -> list[Batch]:
        """The steps in which it is computed, so many tokens of a prompt at a time; None for all."""
        if self.phase == "decode" or size is None or self.new_tokens <= size:
            return [self]
        whole, rest = divmod(self.new_tokens, size)
        sizes = [float(size)] * int(whole) + ([rest] if rest else [])
        cached = self.context_tokens
        return [
            Batch.prefill(tokens, cached + index * size, silent=self.silent, beside=self.beside)
            for index, tokens in enumerate(sizes)
        ]

    @property
    def carried(self) -> Phase:
        """As what its messages are sent: decode steps keep the window of a connection open."""
        return "decode" if self.beside else self.phase

    @property
    def sampled_tokens(self) -> float:
        """Tokens the head is asked about: the last of a prompt, all of a decode step."""
        if self.silent:
            return 0
        return self.sequences if self.phase == "prefill" else self.new_tokens

    def read_tokens(self, window: int | None) -> float:
        """Cached tokens that attention reads, over all sequences."""
        if window is None:
            return self.context_tokens
        return min(self.context_tokens, self.sequences * window)

    def attended_pairs(self, window: int | None) -> float:
        """Pairs of a new token and a token it attends to, itself included.

        With n new tokens after c cached ones in a sequence: n c + n (n + 1) / 2; a window w
        bounds each token's share.
        """
        new = self.new_tokens / self.sequences
        cached = self.context_tokens / self.sequences
        if window is None:
            return self.sequences * (new * cached + new * (new + 1) / 2)
        growing = min(new, max(0.0, window - cached))
        pairs = growing * cached + growing * (growing + 1) / 2 + (new - growing) * window
        return self.sequences * pairs


def leaning_tokens(sequences: float, context_tokens: float, longest: float, skew: float) -> float:
    """Cached tokens of sequences of one length that take as long as those of unlike length.

    A kernel is done when its longest sequence is; between t(mean) and t(longest) it leans by
    ``skew`` towards the latter (LLMServingSim 2, measured inside vLLM).
    """
    return (1 - skew) * context_tokens + skew * sequences * longest
