"""``planner simulate``: replays requests against plans, and compares them."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption, SetOption

if TYPE_CHECKING:
    from planner.core.plan import Plan
    from planner.core.problem import Problem
    from planner.core.requirements import MustHave
    from planner.files.manifest import Manifest
    from planner.files.scenario import Api, Scenario
    from planner.report.simulate import Target
    from planner.sim.replicate import Replications

_COLUMNS = (
    "target",
    "replication",
    "id",
    "pipeline",
    "status",
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "ttft_ms",
    "tpot_ms",
    "e2el_ms",
    "reason",
)


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A plan that is to be simulated."""

    name: str
    kind: str
    problem: Problem
    plan: Plan


def simulate(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="TARGET...", help="Manifests, or scenarios to be planned first."),
    ],
    overrides: SetOption = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            envvar="PLANNER_SEED",
            min=0,
            help="Seed of all random numbers.  [default: the first manifest's, or 0]",
        ),
    ] = None,
    replications: Annotated[
        int, typer.Option("--replications", min=1, help="Runs with different random numbers.")
    ] = 1,
    requests: Annotated[
        int | None,
        typer.Option("--requests", min=1, help="Requests of a run.  [default: the workload's]"),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option("--records", metavar="FILE.csv", help="Where to write a row per request."),
    ] = None,
    fail_on_slo: Annotated[
        bool,
        typer.Option("--fail-on-slo", help="Exit with 6 if the first target misses a must-have."),
    ] = False,
    scenario: Annotated[
        Path | None,
        typer.Option(
            "--scenario",
            metavar="SCENARIO",
            help="Refuse manifests that were planned for anything but this scenario.",
        ),
    ] = None,
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Simulate plans under a workload and compare them with their alternatives.

    All targets meet the same random numbers. A scenario is planned first; the alternatives it
    names follow as further targets, APIs at their price for the simulated tokens.
    """
    from planner.report.simulate import SimulateReport

    began_s = time.perf_counter()
    loaded = _load(targets, scenario, profiles or [], overrides or [])
    first_seed = _seed(loaded, seed)
    field = _Field(loaded, requests)
    found: list[Target] = []
    runs: list[Replications] = []
    seeds = range(first_seed, first_seed + replications)
    with console.progress("simulating", len(field.contestants)) as advance:
        for contestant in field.contestants:
            target, run = _simulate(contestant, seeds)
            found.append(target)
            runs.append(run)
            advance(1)
    must = field.contestants[0].problem.requirements.must_have
    found += _apis(field.apis, found[0], runs[0], must)
    wall_s = time.perf_counter() - began_s
    report = SimulateReport(
        targets=found,
        simulated_s=sum(result.simulated_s for run in runs for result in run.results),
        wall_s=wall_s,
        events=sum(result.event_count for run in runs for result in run.results),
        replications=replications,
        must_have=must,
        left_out=field.left_out,
    )
    if records is not None:
        _write_records(records, [target.name for target in found], runs)
        console.note(f"records written to {records}")
    if format is Format.json:
        console.emit_json(report.document())
    else:
        console.emit(*report.text())
    console.note(f"simulated in {wall_s:.2f} s")
    if fail_on_slo:
        _check(found[0])


def _load(
    paths: Sequence[Path],
    scenario: Path | None,
    profiles: Sequence[Path],
    overrides: Sequence[str],
) -> list[Scenario | Manifest]:
    """The targets; raises StaleManifestError for one that was planned for another scenario."""
    from planner.files.manifest import Manifest, check_digest
    from planner.files.scenario import load_scenario
    from planner.files.target import load_target

    if scenario is not None:
        problem = load_scenario(scenario, profiles).problem
        for path in paths:
            target = load_target(path, profiles)
            if isinstance(target, Manifest):
                check_digest(target, problem)
    loaded = [load_target(path, profiles, overrides) for path in paths]
    for target in loaded:
        for warning in target.warnings:
            console.warn(warning)
    return loaded


def _seed(loaded: Sequence[Scenario | Manifest], given: int | None) -> int:
    """The seed given, or that of the first target if it is a manifest."""
    from planner.files.manifest import Manifest

    if given is not None:
        return given
    return loaded[0].seed if isinstance(loaded[0], Manifest) else 0


class _Field:
    """All that compete: plans of manifests and scenarios, their alternatives, APIs."""

    def __init__(self, loaded: Sequence[Scenario | Manifest], requests: int | None) -> None:
        self.contestants: list[_Contestant] = []
        self.apis: list[Api] = []
        self.left_out: list[tuple[str, str]] = []
        self._requests = requests
        for target in loaded:
            self._add(target)

    def _add(self, target: Scenario | Manifest) -> None:
        from planner.core.errors import InfeasibleError
        from planner.files.manifest import Manifest
        from planner.files.scenario import Api

        if isinstance(target, Manifest):
            self._enter(target.problem.name, "manifest", target.problem, target.plan)
            return
        self._plan(target)
        for other in target.alternatives:
            if isinstance(other, Api):
                self.apis.append(other)
                continue
            try:
                self._plan(other)
            except InfeasibleError as error:
                self.left_out.append((other.name, error.message))

    def _plan(self, scenario: Scenario) -> None:
        from planner.plan.solve import solve

        with console.progress(f"planning {scenario.name}"):
            solution = solve(scenario.problem)
        self._enter(scenario.name, "scenario", scenario.problem, solution.plan)

    def _enter(self, name: str, kind: str, problem: Problem, plan: Plan) -> None:
        taken = {contestant.name for contestant in self.contestants}
        number = next(n for n in range(1, len(taken) + 2) if _numbered(name, n) not in taken)
        if self._requests is not None:
            workload = problem.workload.model_copy(update={"requests": self._requests})
            problem = problem.model_copy(update={"workload": workload})
        self.contestants.append(_Contestant(_numbered(name, number), kind, problem, plan))


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"


def _simulate(contestant: _Contestant, seeds: Sequence[int]) -> tuple[Target, Replications]:
    from planner.report.simulate import Target
    from planner.sim.replicate import replicate

    run = replicate(contestant.problem, contestant.plan, seeds)
    target = Target(
        name=contestant.name,
        kind=contestant.kind,
        metrics=run.metrics,
        confidence=run.confidence,
        cost=_mean([result.cost for result in run.results]),
        events={
            name: sum(result.events.get(name, 0) for result in run.results)
            for name in ("failures", "failovers", "retries")
        },
        stage_busy=_mean([result.stage_busy for result in run.results]),
        link_busy=_mean([result.link_busy for result in run.results]),
        missed=tuple(contestant.problem.requirements.must_have.missed(run.metrics)),
    )
    return target, run


def _mean(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each entry over the replications."""
    names = dict.fromkeys(name for one in several for name in one)
    return {name: sum(one.get(name, 0.0) for one in several) / len(several) for name in names}


def _apis(apis: Sequence[Api], first: Target, run: Replications, must: MustHave) -> list[Target]:
    """The APIs, asked for the tokens that the first target served."""
    from planner.report.simulate import api_target

    served = [
        (record.prompt_tokens, record.output_tokens)
        for result in run.results
        for record in result.records
        if record.status == "completed"
    ]
    unique = dict.fromkeys((api.price, api.prices) for api in apis)
    return [api_target(price, prices, served, first.metrics, must) for price, prices in unique]


def _write_records(path: Path, names: Sequence[str], runs: Sequence[Replications]) -> None:
    """A row per request of every replication of every plan."""
    from planner.files.atomic import write_text

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for name, run in zip(names, runs, strict=False):
        for index, result in enumerate(run.results):
            for one in result.records:
                told = bool(one.token_s)
                tpot_s = one.tpot_s
                rows.writerow(
                    (
                        name,
                        index,
                        one.id,
                        one.pipeline,
                        one.status,
                        one.prompt_tokens,
                        one.output_tokens,
                        one.arrival_s,
                        1e3 * one.ttft_s if told else "",
                        "" if tpot_s is None else 1e3 * tpot_s,
                        1e3 * one.e2el_s if told else "",
                        one.reason,
                    )
                )
    write_text(path, text.getvalue())


def _check(first: Target) -> None:
    from planner.core.errors import CheckFailedError
    from planner.report.tables import missed_text

    if first.missed:
        said = "; ".join(missed_text(miss) for miss in first.missed)
        raise CheckFailedError(f"{first.name} misses its must-haves: {said}")
