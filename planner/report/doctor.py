"""What ``planner doctor`` found: one line each, with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

State = Literal["ok", "old", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: State
    """``missing`` limits what can be done, ``broken`` ends it."""
    detail: str
    hint: str = ""


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON document."""
    return {
        "ok": not any(finding.state == "broken" for finding in findings),
        "can_run": not any(
            finding.state != "ok" and finding.name == "torch" for finding in findings
        ),
        "findings": [asdict(finding) for finding in findings],
    }


def text(findings: Sequence[Finding]) -> Table:
    """A table for people."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        hint = f"\n{finding.hint}" if finding.hint else ""
        table.add_row(finding.state, finding.name, finding.detail + hint)
    return table
