"""Pages for ``--html``: what plan, simulate and run know, gathered and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.advice.advise import Advice
    from planner.cli.beside import Beside
    from planner.cli.contest import Contest, Contestant
    from planner.files.manifest import Manifest
    from planner.files.scenario import Scenario
    from planner.plan.solution import Solution
    from planner.report.page import Facts, Served
    from planner.report.simulate import Target
    from planner.sim.replicate import Replications
    from planner.sim.result import SimResult

HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Page with pictures to write: one file that needs no network.  [extra: html]",
    ),
]


def require_plotly() -> None:
    """Raises RunError unless the extra is installed; called before long work begins."""
    from importlib.util import find_spec

    from planner.core.errors import RunError

    if find_spec("plotly") is None:
        raise RunError("plotly is not installed", "pip install 'planner[html]'")


def write_page(path: Path, facts: Facts) -> None:
    """Writes the page whole or not at all."""
    from planner.files.atomic import write_text
    from planner.report.page import render

    write_text(path, render(facts))
    console.note(f"page written to {path}")


def command_line() -> str:
    """What the user typed, as the page tells it."""
    import shlex

    return shlex.join(["planner", *sys.argv[1:]])


def planned_facts(
    scenario: Scenario,
    solution: Solution,
    seed: int,
    warnings: Sequence[str],
    profiles: Sequence[Path],
) -> Facts:
    """A solution with a simulation of it, beside the scenario's alternatives."""
    from planner.cli.advice import advice_on
    from planner.cli.contest import contest_of
    from planner.cli.entrants import compete_with, solved
    from planner.cli.targets import How, simulated, target_of

    contest = contest_of((), None, profiles, True, True)
    contest.enter(solved(scenario, solution))
    compete_with(contest, scenario)
    runs = simulated(contest.contestants, [seed], How())
    found = [target_of(*both) for both in zip(contest.contestants, runs, strict=True)]
    advice = advice_on(contest, found, runs[0], True) if contest.compares else None
    first = replace(contest.contestants[0], warnings=tuple(warnings))
    return simulated_facts(first, contest, runs[0], found, advice)


def simulated_facts(
    first: Contestant,
    contest: Contest,
    run: Replications,
    found: Sequence[Target],
    advice: Advice | None,
    varied: bool = False,
) -> Facts:
    """The first target of a comparison, its figures and how its first run went, and the others."""
    from planner.report.churn import short_run_text
    from planner.report.page import Facts
    from planner.report.simulate import api_target

    target, others = found[0], [] if varied else found[1:]
    apis = [api_target(one) for one in (advice.alternatives if advice else ()) if one.is_api]
    known = {one.name for one in others}
    return Facts(
        command=command_line(),
        problem=first.problem,
        plan=first.plan,
        prediction=first.prediction,
        gap=first.gap,
        reasons=first.reasons,
        verdict=advice.verdict.text if advice else (),
        elsewhere=advice is not None and advice.verdict.winner != first.name,
        turns=(advice.flips if advice else ()) or first.reasons.flips,
        turns_from=advice.flips_from if advice else "",
        rivals=[*others, *(one for one in apis if one.name not in known)],
        varied=found if varied else (),
        prices=[tag.document() for tag in contest.tags],
        left_out=contest.left_out,
        served=[
            replace(
                _served(run.results[0]),
                metrics=target.metrics,
                cost_usd_per_hour=target.cost,
                runs=len(run.results),
            )
        ],
        short_run=short_run_text(
            first.problem,
            first.plan,
            run.results[0].simulated_s,
            first.prediction.metrics,
        ),
        warnings=tuple(dict.fromkeys(first.warnings)),
    )


def run_facts(planned: Manifest, beside: Beside) -> Facts:
    """A run beside its simulation and its prediction."""
    from planner.report.churn import short_run_text
    from planner.report.page import Facts, Served

    job, simulated = beside.job, beside.simulated
    measured = Served("measured", beside.measured, beside.measurement.records, beside.recoveries)
    return Facts(
        command=command_line(),
        problem=job.problem,
        plan=planned.plan,
        prediction=beside.prediction,
        gap=planned.bound.gap,
        reasons=planned.reasons,
        turns=planned.reasons.flips,
        served=[_served(simulated), measured],
        short_run=short_run_text(
            job.problem,
            planned.plan,
            simulated.simulated_s,
            planned.prediction.metrics,
        ),
        warnings=planned.warnings,
    )


def _served(result: SimResult) -> Served:
    """What a simulation says of the requests."""
    from planner.report.page import Served

    return Served(
        "simulated",
        result.metrics,
        result.records,
        result.recoveries,
        result.stage_busy,
        result.link_busy,
        result.cost,
    )
