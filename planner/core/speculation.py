"""Speculation: several tokens per traversal, guessed at the coordinator."""

from __future__ import annotations

import random

from pydantic import Field

from planner.core.spec import Spec
from planner.core.units import Count, Fraction, Seconds

_CHECKS_FOLLOWED = 32
"""Checks in a row after which a round is taken to end, right or wrong."""


class Drafting(Spec):
    """How often guesses for a model turned out right, as a run measured it."""

    model: str
    """Id of the model."""
    draft: str = ""
    """Id of the draft model; empty where guesses were looked up in the text so far."""
    acceptance: Fraction
    source: str = Field(min_length=1)


class Speculation(Spec):
    """A draft proposes tokens; one traversal of the pipeline checks them all."""

    draft_tokens: Count
    """Tokens drafted for one check."""
    at_most: bool = False
    """Whether a plan chooses how many: any number from none to ``draft_tokens``."""
    acceptance: Fraction
    """Chance that a drafted token is what the model itself would have said. A scenario may leave it
    out where the engine's profile has it from a run (``planner run --calibrate``)."""
    draft_token_s: Seconds = Field(default=0.0, alias="draft_token")
    """Time of the draft for one token of every sequence of a step. Where it is 0, what the cost
    model says of the draft model on the coordinator's device, if one is named."""
    checks_in_flight: Count = 1
    """Checks under way at once; above 1 drafting goes on while earlier drafts are checked."""

    @property
    def most_tokens(self) -> int:
        """Drafted tokens that a round can keep."""
        return self.draft_tokens * (1 if self.checks_in_flight == 1 else _CHECKS_FOLLOWED)

    @property
    def tokens_per_round(self) -> float:
        """Expected tokens from one round: the drafts accepted before the first miss, plus one.

        (1 - a^(k + 1)) / (1 - a) for k drafts accepted with chance a each (Leviathan, Kalman,
        Matias, ICML 2023, eq. 1). With several checks in flight drafts follow each other without
        an answer, so that a round goes on until a draft is wrong.
        """
        return _geometric(self.acceptance, self.most_tokens + 1)

    @property
    def draft_s(self) -> float:
        """Time of the draft that a round waits for, as stated."""
        return self.waited_s(self.draft_token_s)

    def waited_s(self, token_s: float) -> float:
        """Time of the draft that a round waits for, at ``token_s`` for each token.

        With one check at a time every round drafts first. With several, the check of a wrong draft
        says what is right one traversal after it was sent, and all that was drafted after it is
        lost: a round takes a traversal, the first draft, and one more for every check before it
        that was accepted as a whole.
        """
        each_s = self.draft_tokens * token_s
        if self.checks_in_flight == 1:
            return each_s
        accepted: float = self.acceptance**self.draft_tokens
        return each_s * _geometric(accepted, _CHECKS_FOLLOWED)

    def stalled_s(self, token_s: float, way_s: float) -> float:
        """Time that a round waits for a free place in flight, checks being ``way_s`` under way.

        The check after m others, each of which was right, is sent when the first of them is back,
        if that is later than when it was drafted: by T - m d, with drafts of d.
        """
        places, accepted = self.checks_in_flight, self.acceptance**self.draft_tokens
        if places == 1:
            return 0.0
        late_s = max(0.0, way_s - places * self.draft_tokens * token_s)
        full = accepted**places
        return late_s * full * _geometric(full, (_CHECKS_FOLLOWED - 1) // places)

    def draw(self, rng: random.Random) -> int:
        """Tokens that one round brings."""
        kept = 0
        while kept < self.most_tokens and rng.random() < self.acceptance:
            kept += 1
        return kept + 1


def _geometric(ratio: float, terms: int) -> float:
    """1 + ratio + ratio^2 + ... over ``terms`` terms."""
    return float(terms) if ratio == 1 else float((1 - ratio**terms) / (1 - ratio))
