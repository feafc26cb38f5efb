"""Candidates: what else was weighed, the best of each structure beside what it trades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.core.choice import chosen
from planner.core.problem import Problem
from planner.core.requirements import scale
from planner.core.words import figure, label
from planner.plan.solution import Candidate, Tie
from planner.report.tables import Lines, plain_metrics, table

_SHOWN = 8
"""Candidates that the table has at most; all are in JSON."""


def candidates_text(problem: Problem, candidates: Sequence[Candidate]) -> Lines:
    """A row for the best of each structure, the chosen one first, and how many are left."""
    wanted = problem.requirements
    metric = scale(wanted.objective)[0]
    shown = {"mean_ttft_ms": ">TTFT", "mean_tpot_ms": ">TPOT", "usd_per_hour": ">USD/h"}
    if metric not in shown:
        shown = {metric: f">{label(metric)}"} | shown
    rows = table("", "plan", *shown.values(), "trade")
    best = _best(candidates)[:_SHOWN]
    for one in best:
        said = one.trial or one.prediction.metrics
        figures = (
            figure(
                name,
                wanted.value(said) if name == "weighted" else wanted.figure(said, name),
                name.endswith("_ms"),
            )
            for name in shown
        )
        rows.add_row("chosen" if one.chosen else "", one.name, *figures, one.trade)
    yield rows
    if left := len(candidates) - len(best):
        yield f"  {left} more, worse or of the same structure, are in --format json"


def ties_text(ties: Sequence[Tie]) -> Lines:
    """What the objective hardly tells from the chosen plan, if anything."""
    if ties:
        yield ""
        yield "As good by the objective, or nearly"
        yield from (f"  {tie.text}" for tie in ties)


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first of each structure, whatever else it chose; the chosen one before all others."""
    best: dict[str, Candidate] = {}
    for one in sorted(candidates, key=lambda one: not one.chosen):
        best.setdefault(one.name.removesuffix(chosen(one.plan)), one)
    return list(best.values())


def candidate_document(candidate: Candidate) -> dict[str, Any]:
    """A candidate with its plan and its metrics."""
    return {
        "name": candidate.name,
        "chosen": candidate.chosen,
        "value": candidate.value,
        "trade": candidate.trade,
        "trial": plain_metrics(candidate.trial) if candidate.trial else None,
        "plan": candidate.plan.model_dump(mode="json"),
        "prediction": plain_metrics(candidate.prediction.metrics),
    }
