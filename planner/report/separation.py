"""What calibrating audits found: how far honest results are from cheaper ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from planner.receipts.record import KERNEL
from planner.report.tables import Lines, table

if TYPE_CHECKING:
    from planner.run.separation import Separation


def document(found: Sequence[Separation]) -> dict[str, Any]:
    """The JSON document."""
    return {
        "separations": [
            {
                "stage": one.stage,
                "prover": {"dtype": one.pair.dtype, "kernel": one.pair.kernel},
                "verifier": {"dtype": one.pair.quant, "kernel": KERNEL},
                "sessions": one.sessions,
                "honest": one.honest,
                "cheats": one.cheats,
                "accept": one.accept,
                "reject": one.reject,
                "token_gap": one.token_gap,
                "not_separable": list(one.not_separable),
            }
            for one in found
        ]
    }


def text(found: Sequence[Separation]) -> Lines:
    """A table with a row for every stage and class of provers."""
    cheats = list(found[0].cheats)
    rows = table("stage", "prover", ">honest at most", *(f">{how}" for how in cheats), "told apart")
    for one in found:
        hidden = one.not_separable
        told = f"not separable: {', '.join(hidden)}" if hidden else "all"
        figures = [f"{one.cheats[how]:.4f}" for how in cheats]
        name = f"{one.pair.dtype} {one.pair.kernel}"
        rows.add_row(str(one.stage), name, f"{one.honest:.4f}", *figures, told)
    yield rows
    yield ""
    yield (
        "Figures are distances |y - y_ref| / |y_ref - x| of sessions: the largest of honest ones, "
        "the smallest of each way to cheat. A stage is accepted up to 1.25 times the former."
    )
    gaps = [one for one in found if one.honest_gap is not None and one.forged_gap is not None]
    for one in gaps[:1]:
        bound = "not separable" if one.token_gap is None else f"rejected from {one.token_gap:.2g}"
        yield (
            f"Tokens of the last stage: honest ones miss the largest score by "
            f"{one.honest_gap:.2g} at most, forged ones by {one.forged_gap:.2g} at least: {bound}."
        )
