"""Speculation: several tokens per traversal, guessed by a draft model at the coordinator."""

from __future__ import annotations

import random

from pydantic import Field

from planner.core.spec import Spec
from planner.core.units import Count, Fraction, Seconds


class Speculation(Spec):
    """A draft model proposes tokens; one traversal of the pipeline checks them all."""

    draft_tokens: Count
    """Tokens drafted for one check."""
    acceptance: Fraction
    """Chance that a drafted token is what the model itself would have said."""
    draft_token_s: Seconds = Field(default=0.0, alias="draft_token")
    """Time of the draft model for one token of every sequence of a step."""
    checks_in_flight: Count = 1
    """Checks under way at once; above 1 drafting goes on while earlier drafts are checked."""

    @property
    def window_tokens(self) -> int:
        """Drafted tokens that can be under way at once."""
        return self.draft_tokens * self.checks_in_flight

    @property
    def tokens_per_round(self) -> float:
        """Expected tokens from one traversal: the drafts accepted before the first miss, plus one.

        (1 - a^(k + 1)) / (1 - a) for k drafts accepted with chance a each (Leviathan, Kalman,
        Matias, ICML 2023, eq. 1).
        """
        drafts, chance = self.window_tokens, self.acceptance
        if chance == 1:
            return drafts + 1.0
        return float((1 - chance ** (drafts + 1)) / (1 - chance))

    @property
    def draft_s(self) -> float:
        """Time of the draft model that a round waits for.

        With one check at a time every round drafts first. With several, drafting and checking
        overlap, and only the tokens that are kept take their time one after the other.
        """
        if self.checks_in_flight == 1:
            return self.draft_tokens * self.draft_token_s
        return (self.tokens_per_round - 1) * self.draft_token_s

    def draw(self, rng: random.Random) -> int:
        """Tokens that one round brings."""
        kept = 0
        while kept < self.window_tokens and rng.random() < self.acceptance:
            kept += 1
        return kept + 1
