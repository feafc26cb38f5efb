"""What receipts and audits of a run came to, beside what they were predicted to take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planner.core.cost.verification import VerificationCost, drawn_overhead

if TYPE_CHECKING:
    from planner.run.oversight import Verified


@dataclass(frozen=True, slots=True)
class VerificationTerms:
    """Counts and times; all zero where a run is not verified."""

    log: str = ""
    """File of the log; empty where there is none."""
    sampled: int = 0
    accepted: int = 0
    rejected: int = 0
    undecided: int = 0
    unanswered: int = 0
    accused: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    """What did not fit together, in words."""
    audit_s: float = 0.0
    receipts_s: float = 0.0
    stages_s: float = 0.0
    """Time of the stages themselves, what they waited for a core left out."""
    predicted_overhead: float | None = None
    """Of audits over the stages, in the mean over who is drawn."""
    drawn_overhead: float | None = None
    """The same of the audits that were drawn and made."""

    @property
    def audit_overhead(self) -> float:
        """Time of audits over the time of the stages."""
        return self.audit_s / self.stages_s if self.stages_s else 0.0

    @property
    def receipts_overhead(self) -> float:
        """Time of hashing and signing over the time of the stages."""
        return self.receipts_s / self.stages_s if self.stages_s else 0.0

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "enabled": bool(self.log),
            "sampled": self.sampled,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "undecided": self.undecided,
            "unanswered": self.unanswered,
            "accused": list(self.accused),
            "unverified_sessions": list(self.unverified),
            "reasons": list(self.reasons),
            "log": self.log,
            "audit_s": self.audit_s,
            "receipts_s": self.receipts_s,
            "stages_s": self.stages_s,
            "audit_overhead": self.audit_overhead,
            "receipts_overhead": self.receipts_overhead,
            "predicted_audit_overhead": self.predicted_overhead,
            "predicted_drawn_overhead": self.drawn_overhead,
        }

    def text(self) -> Iterator[str]:
        """Lines for people; none where a run is not verified."""
        if not self.log:
            return
        yield ""
        yield f"Verification: receipts of every stage in {self.log}"
        yield (
            f"  {self.sampled} audits, {self.accepted} accepted, {self.rejected} rejected, "
            f"{self.undecided} undecided, {self.unanswered} of nodes that were lost before"
        )
        predicted = ""
        if self.predicted_overhead is not None and self.drawn_overhead is not None:
            predicted = (
                f" ({self.drawn_overhead:.2%} predicted of those drawn, "
                f"{self.predicted_overhead:.2%} in the mean)"
            )
        yield (
            f"  audits took {self.audit_overhead:.2%} of the stages' own time{predicted}, "
            f"hashing and signing {self.receipts_overhead:.2%}"
        )
        if self.accused:
            yield f"  accused and excluded: {', '.join(self.accused)}"
        yield from (f"  {reason}" for reason in self.reasons)
        if self.unverified:
            count = len(self.unverified)
            yield f"  {count} session{'s' * (count > 1)} with tokens nobody can vouch for"


def verification_terms(
    verified: Verified | None,
    predicted: VerificationCost | None,
    lasted_s: float,
) -> VerificationTerms:
    """What came of the verification of a run, beside a simulation that took ``lasted_s``."""
    if verified is None:
        return VerificationTerms()
    tally = verified.tally
    return VerificationTerms(
        log=str(verified.log),
        sampled=tally.sampled,
        accepted=tally.accepted,
        rejected=tally.rejected,
        undecided=tally.undecided,
        unanswered=tally.unanswered,
        accused=tuple(tally.accused),
        unverified=tuple(tally.unverified),
        reasons=tuple(dict.fromkeys(f"{one.node}: {one.reason}" for one in tally.findings)),
        audit_s=verified.audit_s,
        receipts_s=verified.receipts_s,
        stages_s=verified.worked_s,
        predicted_overhead=predicted.overhead if predicted else None,
        drawn_overhead=(
            drawn_overhead(predicted, verified.audited, lasted_s) if predicted else None
        ),
    )
