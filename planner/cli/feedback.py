"""``planner run --calibrate``: what the run took, back into the engine profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from planner.cli import console
from planner.core.errors import UsageError

if TYPE_CHECKING:
    from planner.cli.beside import Beside
    from planner.core.cost.measured import MeasuredStep
    from planner.core.engine import Calibration
    from planner.core.problem import Problem
    from planner.core.speculation import Drafting
    from planner.fit.feedback import Correction, Seen
    from planner.report.terms import Term


@dataclass(frozen=True, slots=True)
class Feedback:
    """A profile that was corrected."""

    file: Path
    corrections: tuple[Correction, ...]
    drafting: Drafting | None = None
    """How often drafts were right."""

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "file": str(self.file),
            "corrections": [asdict(one) for one in self.corrections],
            "drafting": self.drafting.model_dump() if self.drafting else None,
        }

    def text(self) -> Iterator[str]:
        """Lines for people."""
        yield ""
        for one in self.corrections:
            yield (
                f"{one.device}, {one.phase}: {one.steps} steps were predicted {one.before:+.1%} "
                f"off in the median, with the corrected profile {one.after:+.1%}"
            )
        if self.drafting:
            yield (
                f"{self.drafting.acceptance:.1%} of the drafts for {self.drafting.model} were "
                "right: scenarios that do not state it are planned with that"
            )
        yield f"wrote {self.file}"


def feed_back(beside: Beside, folder: Path) -> Feedback:
    """Writes the engine's profile, corrected by a run, where ``folder`` has its profiles.

    Raises UsageError where no step was measured.
    """
    from planner.files.readable import write_card
    from planner.fit.feedback import corrected

    console.check_folder("--calibrate", folder)
    steps, pace = _steps(beside)
    if not steps:
        raise UsageError("the run has no steps to calibrate with")
    engine, corrections = corrected(beside.job.problem.engine, steps, pace, _seen(beside))
    note = f"{engine.note}; " if engine.note else ""
    engine = engine.model_copy(
        update={"note": f"{note}corrected by a run of {len(steps)} steps of {_model(beside)}"}
    )
    drafting = _drafting(beside)
    if drafting is not None:
        engine = engine.knowing(drafting)
    return Feedback(write_card(folder, engine), corrections, drafting)


def _drafting(beside: Beside) -> Drafting | None:
    """How often the drafts of a run were right; None where there were none."""
    from planner.core.speculation import Drafting
    from planner.report.drafts import draft_findings

    found = draft_findings(beside.job.problem, beside.measurement.drafts)
    if found is None:
        return None
    return Drafting(
        model=_model(beside),
        draft=found.draft,
        acceptance=found.acceptance,
        source=f"planner run --calibrate, {found.checks} checks",
    )


def _model(beside: Beside) -> str:
    return beside.job.problem.model.id


def _steps(beside: Beside) -> tuple[list[MeasuredStep], dict[str, Calibration]]:
    """Steps on devices as fast as their hosts were found, under their names in the profiles.

    What the stages' own steps showed before the run is the profile's to learn, too.
    Those that shared their host with as many others as it has room for are left out: they waited
    for a core, which is no fault of the profile.
    """
    from planner.core.cost.measured import MeasuredStep
    from planner.core.drift import as_found
    from planner.run.measurement import crowded

    problem = beside.job.problem
    found = as_found(problem, beside.measurement.speeds)
    steps: list[MeasuredStep] = []
    pace: dict[str, Calibration] = {}
    for run in beside.measurement.stages:
        name = problem.cluster.device(run.stage.node).id
        device = found.cluster.device(run.stage.node)
        pace.setdefault(name, found.engine.calibration(device))
        quant = problem.quant(run.stage.quant)
        steps += [
            MeasuredStep(
                device.model_copy(update={"id": name}),
                problem.model,
                run.stage.start,
                run.stage.stop,
                quant,
                step.batch,
                step.compute_s,
            )
            for step in run.steps
            if not crowded(problem, run, step, beside.measurement.stages)
        ]
    return steps + _draft_steps(beside, found, pace), pace


def _draft_steps(
    beside: Beside, found: Problem, pace: dict[str, Calibration]
) -> list[MeasuredStep]:
    """Guesses of the draft model as decode steps of the coordinator's device, token by token."""
    from planner.core.cost.batch import Batch
    from planner.core.cost.measured import MeasuredStep

    problem, home = beside.job.problem, beside.job.problem.cluster.coordinator
    draft = problem.draft
    if draft is None or problem.cluster.node(home).device is None:
        return []
    name, device = problem.cluster.device(home).id, found.cluster.device(home)
    pace.setdefault(name, found.engine.calibration(device))
    return [
        MeasuredStep(
            device.model_copy(update={"id": name}),
            draft,
            0,
            draft.num_hidden_layers,
            problem.quants[0],
            Batch.decode(step.sequences, step.context_tokens),
            step.compute_s / step.new_tokens,
        )
        for steps in beside.measurement.drafted
        for step in steps
        if step.phase == "decode" and step.new_tokens
    ]


def _seen(beside: Beside) -> Seen:
    """How far hops and coordinator were off, over their own software times."""
    from planner.fit.feedback import Seen
    from planner.report.terms import coordinator_terms, hop_terms

    found, job = beside.as_found, beside.job
    hops = hop_terms(found, job.plan, beside.measurement.hops)
    own = coordinator_terms(found, beside.measurement)
    return Seen(
        hop=_over(hops, found.engine.hop_s),
        coordinator=_over(own, found.engine.coordinator_step_s),
    )


def _over(terms: Sequence[Term], software_s: float) -> float:
    """What decode messages take in software, over what was predicted of that."""
    late_s = [one.measured_s - one.predicted_s for one in terms if one.phase == "decode"]
    if not late_s or software_s <= 0:
        return 1.0
    return max(0.0, 1 + fmean(late_s) / software_s)
