"""How ``planner run`` has a run verified: receipts, audits and the bounds they judge by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.cli.beside import Job
    from planner.core.plan import Plan, Stage
    from planner.core.problem import Problem
    from planner.files.manifest import Manifest
    from planner.files.thresholds import StageThresholds
    from planner.run.oversight import Oversight

ReceiptsOption = Annotated[
    Path | None,
    typer.Option(
        "--receipts",
        metavar="DIR",
        help="Have every stage sign what it does, and keep the log there.  [default: where the "
        "manifest asks for verification, MANIFEST.receipts]",
    ),
]
AuditOption = Annotated[
    float | None,
    typer.Option(
        "--audit",
        metavar="PCT",
        min=0.0,
        max=100.0,
        help="Sessions of every stage that another node computes again, in percent.  [default: "
        "the manifest's, or 5]",
    ),
]
ThresholdsOption = Annotated[
    Path | None,
    typer.Option(
        "--thresholds",
        metavar="FILE",
        help="Bounds that audits judge by, from planner verify calibrate.  [default: measured "
        "before the run]",
    ),
]
_DEFAULT_PCT = 5.0
_SESSIONS, _MOST_PROMPT, _LEAST_OUTPUT, _MOST_OUTPUT = 16, 32, 20, 64


def audited(job: Job, receipts: Path | None, audit: float | None) -> Job:
    """The job with the audits that the command line asks for."""
    from planner.core.verification import Verification

    asked = job.problem.serving.verification
    if audit is None and (asked is not None or receipts is None):
        return job
    percent = _DEFAULT_PCT if audit is None else audit
    others = {} if asked is None else {"power": asked.power, "cheating_share": asked.cheating_share}
    wanted = Verification(audit_share=percent / 100, **others)
    serving = job.problem.serving.model_copy(update={"verification": wanted})
    return replace(job, problem=job.problem.model_copy(update={"serving": serving}))


def oversight_of(
    problem: Problem,
    planned: Manifest,
    manifest: Path,
    checkpoint: Path,
    receipts: Path | None,
    thresholds: Path | None,
) -> Oversight | None:
    """How the run is verified; None where nobody asks for it. Raises RunError."""
    from planner.files.manifest import file_digest
    from planner.files.thresholds import read_thresholds
    from planner.receipts.record import numeric_class
    from planner.run.oversight import Oversight

    asked = problem.serving.verification
    if asked is None:
        return None
    stages = [stage for pipeline in planned.plan.pipelines for stage in pipeline.stages]
    known = (
        read_thresholds(thresholds).stages
        if thresholds is not None
        else _measured(problem, planned.plan, checkpoint, planned.seed)
    )
    bounds = {}
    for stage in stages:
        pair = numeric_class(stage)
        mine = [one for one in known if _is_of(one, stage)]
        fitting = [
            bound
            for one in mine
            for bound in one.thresholds
            if bound.prover == pair and bound.verifier == pair
        ]
        if not fitting and asked.probability:
            raise _unjudged(stage, thresholds, bool(mine))
        hidden = sorted({how for one in mine for how in one.not_separable})
        if hidden:
            console.warn(f"audits of {stage.node} cannot tell {', '.join(hidden)} from noise")
        bounds[stage.start, stage.stop, stage.quant] = tuple(fitting)
    return Oversight(
        folder=receipts or manifest.with_suffix(".receipts"),
        manifest=file_digest(manifest),
        audit_share=asked.probability,
        thresholds=bounds,
    )


def _is_of(known: StageThresholds, stage: Stage) -> bool:
    return (known.start, known.stop, known.quant) == (stage.start, stage.stop, stage.quant)


def _measured(
    problem: Problem, plan: Plan, checkpoint: Path, seed: int
) -> tuple[StageThresholds, ...]:
    """Bounds from a few honest and cheaper sessions of the plan's stages on this host."""
    from planner.files.thresholds import plan_thresholds
    from planner.run.checkpoint import open_checkpoint
    from planner.run.separation import separate_plan

    lengths = problem.workload.prompt.max_tokens, problem.workload.output.max_tokens
    with console.progress("measuring what audits can tell", len(plan.pipelines)) as advance:
        found = separate_plan(
            open_checkpoint(checkpoint),
            plan,
            sessions=_SESSIONS,
            prompt_tokens=min(lengths[0], _MOST_PROMPT),
            output_tokens=min(max(lengths[1], _LEAST_OUTPUT), _MOST_OUTPUT),
            seed=seed,
            done=advance,
        )
    return plan_thresholds(plan, found)


def _unjudged(stage: Stage, thresholds: Path | None, listed: bool) -> Exception:
    """Why audits of a stage cannot be judged."""
    from planner.core.errors import FileProblem, InvalidFileError, RunError

    what = f"layers {stage.start} to {stage.stop - 1} in {stage.quant}"
    if thresholds is not None and not listed:
        problem = FileProblem(str(thresholds), f"holds no bounds for {what}", "stages")
        return InvalidFileError(
            [problem], "planner verify calibrate MANIFEST --out FILE writes them"
        )
    return RunError(
        f"not separable: honest noise hides every way to cheat on {stage.node} ({what})",
        "run with --audit 0: receipts alone still show altered bytes, or use another quantization",
    )
