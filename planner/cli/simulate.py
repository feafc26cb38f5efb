"""``planner simulate``: replays requests against plans, and compares them."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.capacity import CapacityOption
from planner.cli.console import Format, FormatOption, ProfilesOption, SetOption
from planner.cli.grid import (
    JobsOption,
    SpreadOption,
    VaryOption,
    combinations,
    named,
    told_as_varied,
)
from planner.cli.options import RayAddressOption
from planner.cli.outputs import (
    ChromeTraceOption,
    check_files,
    write_first_page,
    write_first_trace,
    write_tables,
)
from planner.cli.page import HtmlOption

if TYPE_CHECKING:
    from planner.advice.advise import Advice
    from planner.cli.contest import Contest
    from planner.cli.targets import How
    from planner.core.workload import Request
    from planner.files.manifest import Manifest
    from planner.files.scenario import Scenario
    from planner.report.simulate import SimulateReport, Target
    from planner.sim.replicate import Replications


def simulate(
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="TARGET...", help="Manifests, or scenarios to be planned first."),
    ],
    overrides: SetOption = None,
    vary: VaryOption = None,
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
        int | None,
        typer.Option(
            "--replications",
            min=1,
            help="Runs with different random numbers.  [default: 5 with alternatives or "
            "--capacity, else 1]",
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", min=1, help="Requests of a run.  [default: the workload's]"),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Recorded requests to replay instead: arrival_s, prompt_tokens, output_tokens as "
            "CSV, or an Azure, BurstGPT or Mooncake trace.",
        ),
    ] = None,
    trace_speed: Annotated[
        float,
        typer.Option(
            "--trace-speed", min=1e-6, max=1e6, help="How many times as fast the trace comes."
        ),
    ] = 1.0,
    trace_rate: Annotated[
        float,
        typer.Option(
            "--trace-rate",
            min=1e-6,
            max=1e3,
            help="How many times as many requests of the trace come in the same time.",
        ),
    ] = 1.0,
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="FILE",
            help="Where to write a row per request: .csv or .parquet.  [extra: parquet]",
        ),
    ] = None,
    visits: Annotated[
        Path | None,
        typer.Option(
            "--visits",
            metavar="FILE",
            help="Where to write a row per job at every stage and on every link: .csv or "
            ".parquet. Every hop is then an event, as with --exact-steps.",
        ),
    ] = None,
    jobs: JobsOption = None,
    engine: SpreadOption = "processes",
    ray_address: RayAddressOption = None,
    html: HtmlOption = None,
    chrome_trace: ChromeTraceOption = None,
    exact_steps: Annotated[
        bool,
        typer.Option(
            "--exact-steps",
            help="Make every hop of every step an event: slow, and the same to 1e-9 s.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 6 if a run breaks an invariant of docs/invariants; every job is "
            "watched at every place.",
        ),
    ] = False,
    capacity: CapacityOption = False,
    alternatives: Annotated[
        bool,
        typer.Option(
            help="Compare scenarios with the alternatives they name, or with rented, own and "
            "per-token ones."
        ),
    ] = True,
    flips: Annotated[
        bool, typer.Option(help="Search for the values at which another choice is better.")
    ] = True,
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
    """Simulate plans under a workload, beside their alternatives.

    All targets meet the same random numbers. A scenario is planned first; the alternatives it
    names follow as further targets, APIs at their price for the simulated tokens. A scenario that
    names none is compared with rented clouds and marketplaces, own hardware and the cheapest APIs.
    What to do comes first, and at which prices, loads and latencies that changes. With --vary the
    targets are compared under every combination of values instead. With --capacity every target is
    simulated under the largest load that meets its must-haves, and alternatives are left out.

    Example: `planner simulate manifest.yaml --replications 5`
    """
    from planner.cli.contest import contest_of
    from planner.cli.targets import How
    from planner.report.simulate import api_target

    check_files(html, chrome_trace, records, visits)
    began_s = time.perf_counter()
    grid = combinations(vary or [])
    loaded = _load(targets, scenario, profiles or [], overrides or [], grid)
    first_seed = _seed(loaded, seed)
    scales = trace_speed, trace_rate
    replayed = _trace(trace, scales, requests, first_seed)
    shown = html is not None
    others = alternatives and not capacity
    contest = contest_of(loaded, requests, profiles or [], others, shown, bool(vary))
    compares = contest.compares and not vary and not capacity
    count = replications or (5 if compares or capacity else 1)
    seeds = range(first_seed, first_seed + count)
    how = How(replayed, check, exact_steps, visits is not None, engine, jobs, ray_address)
    gc.freeze()  # or the first collection would walk every module
    runs, found, replayed = _run(contest, seeds, how, capacity)
    advice = _advice(contest, found, runs[0], flips) if compares else None
    found += [api_target(one) for one in (advice.alternatives if advice else ()) if one.is_api]
    for said in contest.stale():
        console.warn(said)
    wall_s = time.perf_counter() - began_s
    report = _report(contest, runs, found, advice, wall_s)
    write_tables(records, visits, contest.contestants, runs)
    if chrome_trace is not None:
        write_first_trace(chrome_trace, contest.contestants[0], first_seed, replayed)
    if html is not None:
        write_first_page(html, contest, runs[0], found, advice, bool(vary))
    console.tell(report, format)
    console.note(f"simulated in {wall_s:.2f} s")
    if fail_on_slo:
        _check(found[0])


def _run(
    contest: Contest, seeds: Sequence[int], how: How, capacity: bool
) -> tuple[list[Replications], list[Target], Sequence[Request] | None]:
    """Every contestant simulated, what is said of it, and what the first one replayed.

    With ``capacity`` under the largest load it takes, which it then has in the contest.
    """
    from planner.cli.capacity import at_capacity
    from planner.cli.targets import simulated, target_of

    if capacity:
        able = [at_capacity(one, seeds, how) for one in contest.contestants]
        contest.contestants = [one.contestant for one in able]
        return [one.run for one in able], [one.target for one in able], able[0].requests
    runs = simulated(contest.contestants, seeds, how)
    found = [target_of(*both) for both in zip(contest.contestants, runs, strict=True)]
    return runs, found, how.requests


def _advice(contest: Contest, found: Sequence[Target], first: Replications, search: bool) -> Advice:
    from planner.cli.advice import advice_on

    return advice_on(contest, found, first, search)


def _report(
    contest: Contest,
    runs: Sequence[Replications],
    found: Sequence[Target],
    advice: Advice | None,
    wall_s: float,
) -> SimulateReport:
    from planner.report.simulate import SimulateReport

    return SimulateReport(
        targets=found,
        simulated_s=sum(result.simulated_s for run in runs for result in run.results),
        wall_s=wall_s,
        events=sum(result.event_count for run in runs for result in run.results),
        replications=len(runs[0].results),
        must_have=contest.contestants[0].problem.requirements.must_have,
        left_out=contest.left_out,
        advice=advice,
        prices=[tag.document() for tag in contest.tags],
    )


def _load(
    paths: Sequence[Path],
    scenario: Path | None,
    profiles: Sequence[Path],
    overrides: Sequence[str],
    grid: Sequence[tuple[str, ...]],
) -> list[Scenario | Manifest]:
    """The targets; raises StaleManifestError for one that was planned for another scenario."""
    from planner.files.manifest import Manifest, check_digest
    from planner.files.target import load_target

    if scenario is not None:
        from planner.files.scenario import load_scenario

        problem = load_scenario(scenario, profiles).problem
        for path in paths:
            target = load_target(path, profiles)
            if isinstance(target, Manifest):
                check_digest(target, problem)
    loaded = []
    for path in paths:
        for values in grid:
            with told_as_varied(values):
                loaded.append(named(load_target(path, profiles, [*overrides, *values]), values))
    for warning in dict.fromkeys(told for target in loaded for told in target.warnings):
        console.warn(warning)
    return loaded


def _seed(loaded: Sequence[Scenario | Manifest], given: int | None) -> int:
    """The seed given, or that of the first target if it is a manifest."""
    from planner.files.manifest import Manifest

    if given is not None:
        return given
    return loaded[0].seed if isinstance(loaded[0], Manifest) else 0


def _trace(
    path: Path | None, scales: tuple[float, float], most: int | None, seed: int
) -> Sequence[Request] | None:
    """The requests of a trace, so many times as fast and as many; says which rows are none.

    Raises UsageError where there is no trace to scale.
    """
    from planner.core.errors import UsageError

    if path is None:
        if scales != (1.0, 1.0):
            raise UsageError("--trace-speed and --trace-rate change a trace", "name it: --trace")
        return None
    from planner.files.trace import read_trace, thickened

    speed, rate = scales
    trace = read_trace(path, speed, most if rate == 1 else None)
    if trace.left_out:
        console.warn(f"{path}: {trace.left_out} rows without prompt or answer are left out")
    return trace.requests if rate == 1 else thickened(trace, rate, seed).requests[:most]


def _check(first: Target) -> None:
    from planner.core.errors import CheckFailedError
    from planner.core.words import missed_text

    if first.missed:
        said = "; ".join(missed_text(miss) for miss in first.missed)
        raise CheckFailedError(f"{first.name} misses its must-haves: {said}")
