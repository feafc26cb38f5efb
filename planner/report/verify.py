"""What is wrong with a log of receipts, and what it proves if nothing is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from planner.report.tables import Lines, table

if TYPE_CHECKING:
    from planner.receipts.check import Checked


def document(checked: Checked) -> dict[str, Any]:
    """The JSON document."""
    return {
        "valid": not checked.findings,
        "sessions": checked.sessions,
        "receipts": checked.receipts,
        "audits": {
            "due": checked.audits_due,
            "made": checked.audits_made,
            "unanswered": checked.audits_unanswered,
            "rejected": checked.rejected,
        },
        "excluded": list(checked.excluded),
        "unanswered_tokens": checked.unanswered_tokens,
        "open_epochs": checked.open_epochs,
        "findings": [asdict(finding) for finding in checked.findings],
    }


def text(checked: Checked) -> Lines:
    """A table of what is wrong, and a summary."""
    if checked.findings:
        wrong = table(">line", "node", "session", "what is wrong")
        for finding in checked.findings:
            line = str(finding.line) if finding.line else "missing"
            wrong.add_row(line, finding.node, finding.session or "-", finding.reason)
        yield wrong
        yield ""
    yield (
        f"{checked.sessions} sessions, {checked.receipts} receipts; {checked.audits_due} audits "
        f"were due, {checked.audits_made} made, {checked.rejected} rejected."
    )
    if checked.excluded:
        yield f"Excluded: {', '.join(checked.excluded)}."
    if checked.audits_unanswered:
        yield (
            f"{checked.audits_unanswered} audits could not be made: their nodes were lost before "
            "they showed what they had signed."
        )
    if checked.unanswered_tokens:
        yield (
            f"Nobody signed for {checked.unanswered_tokens} positions of nodes that were lost: "
            "these tokens are unverified."
        )
    if checked.open_epochs:
        yield "The key of the last epoch is not revealed yet: its audits cannot be checked."
    if not checked.findings:
        yield "Every signature, root and audit is as it should be."
