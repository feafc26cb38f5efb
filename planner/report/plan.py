"""What ``planner plan`` says: the choice first, then why, what it costs and what could flip it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.requirements import scale
from planner.core.words import figure, label
from planner.plan.solution import Solution
from planner.plan.trial import missed as broken
from planner.report import placement
from planner.report.advice import costs_text, pareto_text
from planner.report.audits import audits_text
from planner.report.candidates import candidate_document, candidates_text, ties_text
from planner.report.diff import changes_table
from planner.report.finetune import finetune_text
from planner.report.prefix import prefix_text
from planner.report.running import (
    drafts_table,
    moves_text,
    pipeline_title,
    running_text,
    told_beside,
)
from planner.report.standbys import if_no_node_were_lost, standbys_document, standbys_text
from planner.report.tables import Lines, grid, plain_metrics, trust

if TYPE_CHECKING:
    from planner.advice.finetune import FineTuned
from planner.advice.pareto import ParetoPoint
from planner.advice.prefix import PrefixSaving
from planner.core.errors import InfeasibleError
from planner.core.finetune import FineTune
from planner.core.prefix import PrefixCache

_CHANGES = 12
"""Rows of what changed since a plan that runs was made; JSON has more."""
_NAMED = 6
"""Nodes that are named where many are left out for one reason."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A solved problem."""

    problem: Problem
    solution: Solution
    seconds: float
    """How long the solver took; in the JSON document only."""
    notes: tuple[str, ...] = ()
    """Warnings about the scenario itself."""
    front: Sequence[ParetoPoint] = ()
    """Plans that trade price for speed and quality, where they were searched for."""
    finetune: tuple[FineTune, FineTuned] | None = None
    """Training over the plan, as asked and as found."""
    prefix: tuple[PrefixCache, PrefixSaving] | None = None
    """A cache of common beginnings, as asked and what it saves."""
    drift: Sequence[tuple[str, Any, Any]] | None = None
    """Values that changed since the plan that runs was made: path, before and now."""
    seats_out: Mapping[str, str] = field(default_factory=dict)
    """Why the coordinator may not sit at a node, where its seat was planner's to choose."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, each once."""
        said = (*self.notes, *self.solution.warnings, *self.solution.prediction.warnings)
        return tuple(dict.fromkeys(said))

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        solution = self.solution
        return {
            "problem_digest": self.problem.digest,
            "objective": objective_document(self.problem, solution.value)
            | {"points": self.problem.requirements.points(solution.prediction.metrics)},
            "bound": {
                "value": solution.bound,
                "gap": solution.gap,
                "weights": solution.bound_weights,
            },
            "solver": {
                "name": solution.solver,
                "seconds": self.seconds,
                "stopped": solution.stopped,
            },
            "plan": plan_document(solution.plan),
            "routing": {
                "weights": [one.weight for one in solution.plan.pipelines],
                "equal_value": solution.equal_value,
            },
            "takeovers": standbys_document(self.problem, solution.plan, solution.prediction),
            "prediction": prediction_document(solution.prediction),
            "candidates": [candidate_document(one) for one in solution.candidates],
            "ties": [one.model_dump(mode="json") for one in solution.ties],
            "limits": [limit.model_dump(mode="json") for limit in solution.limits],
            "hidden_costs": dict(solution.hidden_costs),
            "flips": [
                {
                    "parameter": flip.parameter,
                    "from": flip.now,
                    "to": flip.to,
                    "winner": flip.winner,
                    "text": flip.text,
                }
                for flip in solution.flips
            ],
            "fallback": {
                "candidate": candidate_document(solution.fallback) if solution.fallback else None,
                "text": solution.fallback_text,
            },
            "left_out": [one.model_dump(mode="json") for one in solution.left_out],
            "coordinator": {
                "node": self.problem.cluster.coordinator,
                "chosen": solution.plan.coordinator is not None,
                "others": [one.model_dump(mode="json") for one in solution.seats],
                "out": [{"nodes": list(names), "why": why} for names, why in self._seats_out()],
            },
            "standbys": [one.model_dump(mode="json") for one in solution.standbys],
            "drafts": [one.model_dump(mode="json") for one in solution.drafts],
            "warnings": list(self.warnings),
            "drift": (
                None
                if self.drift is None
                else [{"path": path, "before": old, "now": new} for path, old, new in self.drift]
            ),
            "moves": solution.moves.model_dump(mode="json") if solution.moves else None,
            "prefix_cache": self.prefix[1].model_dump(mode="json") if self.prefix else None,
            "finetune": self.finetune[1].model_dump(mode="json") if self.finetune else None,
            "pareto": [point.model_dump(mode="json") for point in self.front],
        }

    def text(self) -> Lines:
        """Texts and tables for people."""
        solution = self.solution
        yield from self._choice()
        for index, pipeline in enumerate(solution.plan.pipelines):
            yield ""
            yield from placement.pipeline_text(
                self.problem,
                solution.prediction,
                index,
                pipeline_title(self.problem, solution.plan, index),
            )
            yield from running_text(pipeline)
        if self.drift is not None:
            yield ""
            yield from self._drift(self.drift)
        if solution.moves is not None:
            yield ""
            yield from moves_text(solution.moves)
        yield from standbys_text(self.problem, solution)
        if solution.limits:
            yield ""
            yield "What limits it"
            yield from (f"  {limit.text}" for limit in solution.limits)
        yield ""
        yield from self._must_haves()
        if solution.candidates:
            yield ""
            tried = any(one.trial for one in solution.candidates)
            yield "Candidates" + (", the best ones as simulated" if tried else "")
            yield from candidates_text(self.problem, solution.candidates)
        yield from ties_text(solution.ties)
        if self.front:
            yield ""
            yield "Price against speed, availability and quality, each found by a search of its own"
            yield from pareto_text(self.front)
        if self.prefix:
            yield ""
            yield from prefix_text(*self.prefix)
        if self.finetune:
            yield ""
            yield from finetune_text(*self.finetune)
        yield ""
        yield from costs_text(solution.prediction)
        yield from audits_text(solution.prediction.verification)
        yield from self._otherwise()
        if self.warnings:
            yield ""
            yield "Warnings"
            yield from (f"  {warning}" for warning in self.warnings)

    def _drift(self, drift: Sequence[tuple[str, Any, Any]]) -> Lines:
        """What changed since the plan that runs was made."""
        if not drift:
            yield "What changed since that plan was made: nothing"
            return
        yield "What changed since that plan was made"
        yield changes_table(drift[:_CHANGES])
        if len(drift) > _CHANGES:
            yield f"  and {len(drift) - _CHANGES} more, in --format json"

    def _otherwise(self) -> Lines:
        """What if a node leaves, what else was to choose from, and what would change the choice."""
        solution = self.solution
        if solution.fallback_text:
            yield ""
            yield f"Fallback: {solution.fallback_text}"
        if solution.left_out:
            yield ""
            yield "Left out"
            yield from (f"  {_few(one.nodes)}: {one.why}" for one in solution.left_out)
        if solution.seats or self.seats_out:
            yield ""
            yield "Other seats of the coordinator"
            yield from (f"  {one.node}: {one.text}" for one in solution.seats)
            yield from (f"  {_few(names)}: no seat, {why}" for names, why in self._seats_out())
        if solution.drafts:
            yield ""
            yield "Tokens drafted for one check"
            yield drafts_table(self.problem, solution)
        if solution.flips:
            yield ""
            yield "What would change the choice among these (a new search may change it earlier)"
            yield from (f"  {flip.text}" for flip in solution.flips)

    def _seats_out(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Nodes at which the coordinator may not sit, by what speaks against them."""
        for why in dict.fromkeys(self.seats_out.values()):
            yield tuple(name for name, said in self.seats_out.items() if said == why), why

    def _choice(self) -> Lines:
        problem, solution = self.problem, self.solution
        metric = scale(problem.requirements.objective)[0]
        many = len(solution.plan.pipelines)
        quants = ", ".join(
            dict.fromkeys(s.quant for p in solution.plan.pipelines for s in p.stages)
        )
        ways = "; ".join(" -> ".join(pipeline.nodes) for pipeline in solution.plan.pipelines)
        verb = "Run" if many == 1 else f"Run {many} copies of"
        yield f"{verb} {problem.model.id} in {quants} on {ways}."
        if solution.plan.coordinator is not None:
            yield f"The coordinator sits at {solution.plan.coordinator}."
        yield f"Predicted {label(metric)}: {figure(metric, solution.value)}, {self._proof(metric)}."
        yield from told_beside(problem, solution)
        said = solution.prediction
        yield f"{trust(said.tier, said.error_band, said.new, said.error_bands)}."

    def _proof(self, metric: str) -> str:
        solution = self.solution
        equal = solution.bound_weights == "equal" and len(solution.plan.pipelines) > 1
        among = " with equal weights" if equal else ""
        if solution.gap == 0 and solution.equal_value is not None:
            return "proven better than any plan with equal weights"
        if solution.gap == 0:
            return f"proven optimal for this model of the problem{among}"
        bound = figure(metric, solution.bound)
        ended = "; the time limit ended the search" if solution.stopped == "time limit" else ""
        best = f"the best possible{among}"
        calm = if_no_node_were_lost(self.problem, solution)
        gap = f"{max(solution.gap, 1e-4):.2%}"
        return f"at most {gap} from {best} ({bound} is the bound{calm}){ended}"

    def _must_haves(self) -> Lines:
        solution, must = self.solution, self.problem.requirements.must_have
        best = next((one for one in solution.candidates if one.chosen), None)
        trial = best.trial if best else None
        asked = placement.must_have_rows(must, solution.prediction, trial)
        if not asked:
            yield "Must-haves: none are asked."
            return
        missed = must.missed(solution.prediction.metrics)
        if best is not None:
            missed += broken(self.problem, best)
        yield "Must-haves" + (", all met" if not missed else "")
        rows = grid("<", ">", "<")
        for name, bound, value in asked:
            rows.add_row(f"  {name}", bound, value)
        yield rows


def objective_document(problem: Problem, value: float) -> dict[str, Any]:
    """The objective with what is reached."""
    _, unit, direction = scale(problem.requirements.objective)
    name = problem.requirements.objective
    return {"name": name, "value": value, "unit": unit, "direction": direction}


def plan_document(plan: Plan) -> dict[str, Any]:
    """A plan as the JSON contract has it."""
    return plan.model_dump(mode="json")


def prediction_document(prediction: Prediction) -> dict[str, Any]:
    """Metrics at the top, and what they are made of."""
    return {
        **plain_metrics(prediction.metrics),
        "tier": prediction.tier,
        "new": prediction.new,
        "error_band": prediction.error_band,
        "error_bands": prediction.error_bands,
        "quality": prediction.quality,
        "cost_usd_per_hour": prediction.cost_usd_per_hour,
        "verification": (
            prediction.verification.model_dump(mode="json") if prediction.verification else None
        ),
        "breakdown": [one.model_dump(mode="json") for one in prediction.pipelines],
    }


def _few(names: Sequence[str]) -> str:
    """Names, the first ones where they are many."""
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def infeasible_document(error: InfeasibleError) -> dict[str, Any]:
    """What the JSON document says where there is no plan."""
    nearest = getattr(error, "nearest", None)
    document: dict[str, Any] = {"error": error.message, "hint": error.hint}
    document["constraint"] = getattr(error, "constraint", None)
    document["nearest"] = None
    changes = [
        {"must_have": mend.name, "from": mend.before, "to": mend.value, "text": mend.text}
        for mend in getattr(error, "mends", ())
    ]
    document["change"] = changes[0] if len(changes) == 1 else None
    document["changes"] = changes
    if isinstance(nearest, Solution):
        document["nearest"] = {
            "plan": plan_document(nearest.plan),
            "prediction": plain_metrics(nearest.prediction.metrics),
        }
    return document
