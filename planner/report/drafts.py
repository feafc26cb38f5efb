"""Drafts of a run: how often they were right, beside what was planned with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.core.problem import Problem

if TYPE_CHECKING:
    from planner.run.drafts import DraftTally


@dataclass(frozen=True, slots=True)
class DraftTerms:
    """Guesses that were made, and what came of them."""

    draft: str
    """Id of the draft model; empty where guesses were looked up."""
    predicted_acceptance: float
    acceptance: float
    predicted_tokens: float
    """Of a sequence from one round."""
    tokens: float
    checks: int
    void: int
    drafted: int
    checks_in_flight: int

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "draft": self.draft or None,
            "predicted_acceptance": self.predicted_acceptance,
            "acceptance": self.acceptance,
            "predicted_tokens_per_round": self.predicted_tokens,
            "tokens_per_round": self.tokens,
            "checks": self.checks,
            "void": self.void,
            "drafted": self.drafted,
            "checks_in_flight": self.checks_in_flight,
        }

    def text(self) -> Iterator[str]:
        """Lines for people."""
        yield ""
        by = self.draft or "looking up"
        yield (
            f"Drafts by {by}: {self.acceptance:.1%} of the guesses were right whose turn came, "
            f"{self.predicted_acceptance:.1%} planned with; {self.tokens:.3g} tokens a round, "
            f"{self.predicted_tokens:.3g} planned with"
        )
        void = f", {self.void} of them void behind a wrong guess" if self.void else ""
        yield f"{self.drafted} guesses in {self.checks} checks of single sequences{void}"


def draft_findings(problem: Problem, tallies: list[DraftTally]) -> DraftTerms | None:
    """What the guesses of all pipelines came to; None where none was checked.

    A round is a check, or with several in flight all checks until a guess is wrong.
    """
    speculation = problem.serving.speculation
    accepted, refused = (sum(getattr(t, name) for t in tallies) for name in ("accepted", "refused"))
    checks, void = sum(tally.checks for tally in tallies), sum(tally.void for tally in tallies)
    if speculation is None or not accepted + refused:
        return None
    rounds = checks if speculation.checks_in_flight == 1 else max(1, refused)
    return DraftTerms(
        draft=problem.draft.id if problem.draft else "",
        predicted_acceptance=speculation.acceptance,
        acceptance=accepted / (accepted + refused),
        predicted_tokens=speculation.tokens_per_round,
        tokens=1 + accepted / rounds,
        checks=checks,
        void=void,
        drafted=sum(tally.drafted for tally in tallies),
        checks_in_flight=speculation.checks_in_flight,
    )
