"""Terms: steps of stages, hops, the coordinator and recoveries, each predicted beside measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from planner.core.cost import Batch, chip, stage_time, traverse
from planner.core.cost.drafting import draft_step_s, draft_token_s
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.report.tables import signed, table

if TYPE_CHECKING:
    from rich.table import Table

    from planner.run.losses import Recovered
    from planner.run.measurement import HopRun, Measurement, StageRun
    from planner.sim.result import Recovery


@dataclass(frozen=True, slots=True)
class Term:
    """One kind of step of a stage, a hop or the coordinator: predicted and measured."""

    where: str
    phase: str
    predicted_s: float
    """Mean over the batches that ran."""
    measured_s: float
    steps: int
    src: str = ""
    dst: str = ""

    @property
    def error(self) -> float | None:
        """Signed: (predicted - measured) / measured."""
        return relative_error(self.predicted_s, self.measured_s)

    @property
    def missing_s(self) -> float:
        """Seconds by which all these steps together were predicted wrongly."""
        return abs(self.predicted_s - self.measured_s) * self.steps

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        names = {"src": self.src, "dst": self.dst} if self.src else {"node": self.where}
        return {
            **names,
            "phase": self.phase,
            "predicted_ms": 1e3 * self.predicted_s,
            "measured_ms": 1e3 * self.measured_s,
            "error": self.error,
            "steps": self.steps,
        }


@dataclass(frozen=True, slots=True)
class RecoveryTerm:
    """A stage that was lost and works again: seconds measured, and predicted by a simulation."""

    node: str
    """The node that was lost."""
    replacement: str
    pipeline: int
    stage: int
    at_s: float
    detect_s: float
    recover_s: float
    """From its detection on."""
    predicted_s: float | None
    replay_s: float = 0.0
    """Of these, what the replacement computed again."""
    predicted_replay_s: float | None = None

    @property
    def error(self) -> float | None:
        """Signed: (predicted - measured) / measured."""
        return relative_error(self.predicted_s, self.recover_s)

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        predicted_ms = None if self.predicted_s is None else 1e3 * self.predicted_s
        return {
            "node": self.node,
            "replacement": self.replacement,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "at_s": self.at_s,
            "detect_ms": 1e3 * self.detect_s,
            "recover_ms": 1e3 * self.recover_s,
            "predicted_recover_ms": predicted_ms,
            "error": self.error,
            "replay_ms": 1e3 * self.replay_s,
            "predicted_replay_ms": (
                None if self.predicted_replay_s is None else 1e3 * self.predicted_replay_s
            ),
        }


def relative_error(predicted: float | None, measured: float | None) -> float | None:
    """(predicted - measured) / measured; None where either is unknown or nothing was measured."""
    if predicted is None or measured is None or measured == 0:
        return None
    return (predicted - measured) / measured


def stage_terms(problem: Problem, runs: Iterable[StageRun]) -> tuple[Term, ...]:
    """Every stage by phase, the cost model asked about exactly the batches that ran."""
    found = []
    for run in runs:
        stage = run.stage
        quant, device = problem.quant(stage.quant), chip(problem, stage.node, stage.split)
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for step in run.steps:
            predicted = stage_time(
                problem.model, stage.start, stage.stop, quant, device, step.batch
            )
            times[step.phase].append((predicted.total_s, step.compute_s))
        found += [_term(stage.node, phase, pairs) for phase, pairs in sorted(times.items())]
    return tuple(found)


def hop_terms(problem: Problem, plan: Plan, runs: Iterable[HopRun]) -> tuple[Term, ...]:
    """Every hop by phase, for the messages that went over it."""
    found = []
    position: dict[int, int] = defaultdict(int)
    for run in runs:
        index = position[run.pipeline]
        position[run.pipeline] += 1
        times: dict[str, list[tuple[float, float]]] = defaultdict(list)
        known: dict[Batch, float] = {}
        for hop in run.hops:
            batch = Batch(hop.phase, hop.sequences, hop.new_tokens, 0)
            if batch not in known:
                way = traverse(problem, plan.pipelines[run.pipeline], batch)
                known[batch] = way.transfers[index].total_s
            times[hop.phase].append((known[batch], hop.seconds))
        where = f"{run.src} -> {run.dst}"
        found += [
            _term(where, phase, pairs, run.src, run.dst) for phase, pairs in sorted(times.items())
        ]
    return tuple(found)


def coordinator_terms(problem: Problem, measurement: Measurement) -> tuple[Term, ...]:
    """The coordinator's own work for a job, by phase."""
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for steps in measurement.coordinator:
        for step in steps:
            times[step.phase].append((problem.engine.coordinator_step_s, step.compute_s))
    return tuple(_term("coordinator", phase, pairs) for phase, pairs in sorted(times.items()))


def draft_terms(problem: Problem, measurement: Measurement) -> tuple[Term, ...]:
    """What the draft model took at the coordinator: prompts that it read, guesses for a check."""
    draft, speculation = problem.draft, problem.serving.speculation
    if draft is None or speculation is None:
        return ()
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for steps in measurement.drafted:
        for step in steps:
            if step.phase == "decode":
                predicted_s = step.new_tokens * draft_token_s(problem, step.batch)
            elif speculation.draft_token_s:
                continue  # nobody said what its prompts take
            else:
                predicted_s = draft_step_s(problem, draft, step.batch)
            times[step.phase].append((predicted_s, step.compute_s))
    where = f"draft {draft.id}"
    return tuple(_term(where, phase, pairs) for phase, pairs in sorted(times.items()))


def recovery_terms(
    measured: Sequence[Recovered], simulated: Sequence[Recovery]
) -> tuple[RecoveryTerm, ...]:
    """Every recovery beside the simulated one of the same stage, in their order."""
    predicted: dict[tuple[int, int], list[Recovery]] = defaultdict(list)
    for known in simulated:
        predicted[known.pipeline, known.stage].append(known)
    terms = []
    for one in measured:
        queue = predicted[one.pipeline, one.stage]
        alike = queue.pop(0) if queue else None
        terms.append(
            RecoveryTerm(
                node=one.node,
                replacement=one.replacement,
                pipeline=one.pipeline,
                stage=one.stage,
                at_s=one.lost_s,
                detect_s=one.found_s - one.lost_s,
                recover_s=one.recovered_s - one.found_s,
                predicted_s=alike.recovered_s - alike.detected_s if alike else None,
                replay_s=sum(step.compute_s for step in one.replays),
                predicted_replay_s=alike.replayed_s if alike else None,
            )
        )
    return tuple(terms)


def recoveries_table(terms: Iterable[RecoveryTerm]) -> Table:
    """One row per recovery."""
    rows = table(
        "lost", "taken over by", ">at", ">noticed after", ">predicted", ">measured", ">error", ""
    )
    for one in terms:
        rows.add_row(
            one.node,
            one.replacement,
            f"{one.at_s:.2f} s",
            _ms(one.detect_s),
            _ms(one.predicted_s),
            _ms(one.recover_s),
            signed(one.error),
            f"of it computing again {_ms(one.predicted_replay_s)} and {_ms(one.replay_s)}",
        )
    return rows


def _ms(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{1e3 * seconds:.3g} ms"


def _term(
    where: str, phase: str, pairs: list[tuple[float, float]], src: str = "", dst: str = ""
) -> Term:
    predicted_s, measured_s = (fmean(side) for side in zip(*pairs, strict=True))
    return Term(where, phase, predicted_s, measured_s, len(pairs), src, dst)


def terms_table(name: str, terms: Iterable[Term]) -> Table:
    """One row per term."""
    rows = table(name, "phase", ">predicted", ">measured", ">error", ">times")
    for term in terms:
        rows.add_row(
            term.where,
            term.phase,
            f"{1e3 * term.predicted_s:.3g} ms",
            f"{1e3 * term.measured_s:.3g} ms",
            signed(term.error),
            str(term.steps),
        )
    return rows
