"""Pages for ``--html``: what plan, simulate and run know, gathered and written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console

if TYPE_CHECKING:
    from planner.cli.beside import Beside
    from planner.cli.contest import Contestant
    from planner.files.manifest import Manifest
    from planner.files.scenario import Scenario
    from planner.plan.solution import Solution
    from planner.report.page import Facts, Rival, Served
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
    scenario: Scenario, solution: Solution, seed: int, warnings: Sequence[str]
) -> Facts:
    """A solution with a simulation of it, beside the scenario's alternatives."""
    from planner.plan.reasons import reasons
    from planner.report.page import Facts
    from planner.sim.simulate import simulate

    result = simulate(scenario.problem, solution.plan, seed)
    rivals, left_out = _rivals(scenario, result, seed)
    return Facts(
        command=command_line(),
        problem=scenario.problem,
        plan=solution.plan,
        prediction=solution.prediction,
        gap=solution.gap,
        reasons=reasons(solution),
        rivals=rivals,
        left_out=left_out,
        served=[simulated(result)],
        warnings=warnings,
    )


def simulated_facts(
    first: Contestant,
    run: Replications,
    others: Iterable[Target],
    left_out: Sequence[tuple[str, str]],
) -> Facts:
    """The first target of a comparison, as its first replication went, beside the others."""
    from planner.report.page import Facts

    return Facts(
        command=command_line(),
        problem=first.problem,
        plan=first.plan,
        prediction=first.prediction,
        gap=first.gap,
        reasons=first.reasons,
        rivals=rivals_of(others),
        left_out=left_out,
        served=[simulated(run.results[0])],
        warnings=tuple(dict.fromkeys(first.warnings)),
    )


def run_facts(planned: Manifest, beside: Beside) -> Facts:
    """A run beside its simulation and its prediction."""
    from planner.report.page import Facts, Served

    records = beside.measurement.records
    return Facts(
        command=command_line(),
        problem=beside.job.problem,
        plan=planned.plan,
        prediction=beside.prediction,
        gap=planned.bound.gap,
        reasons=planned.reasons,
        served=[simulated(beside.simulated), Served("measured", beside.measured, records)],
        warnings=planned.warnings,
    )


def simulated(result: SimResult) -> Served:
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


def rivals_of(targets: Iterable[Target]) -> list[Rival]:
    """Targets that stand beside the one asked about."""
    from planner.report.page import Rival

    return [Rival(one.name, one.kind, one.metrics, one.missed, one.source) for one in targets]


def _rivals(
    scenario: Scenario, mine: SimResult, seed: int
) -> tuple[list[Rival], list[tuple[str, str]]]:
    """The alternatives, planned and simulated under the same requests, and those left out."""
    import datetime

    from planner.advice.alternative import api_alternative
    from planner.cli.contest import Contest
    from planner.files.catalogue import Catalogue
    from planner.report.page import Rival
    from planner.report.simulate import api_target
    from planner.sim.simulate import simulate

    contest = Contest(None, lambda one: Catalogue(one.path.parent), datetime.date.today())
    for other in scenario.alternatives:
        contest.compete(other)
    found: list[Rival] = []
    must = scenario.problem.requirements.must_have
    for one in contest.contestants:
        metrics = simulate(one.problem, one.plan, seed).metrics
        found.append(Rival(one.name, one.kind, metrics, tuple(must.missed(metrics))))
    asked = [(one.prompt_tokens, one.output_tokens) for one in mine.records]
    rate = mine.metrics.output_throughput
    found += rivals_of(
        api_target(api_alternative(option, asked, rate))
        for option in contest.options(scenario.problem)
        if option.price is not None
    )
    return found, contest.left_out
