"""``planner plan``: chooses who holds which layers, explains it and writes the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption, SeedOption, SetOption
from planner.cli.page import HtmlOption

if TYPE_CHECKING:
    from planner.advice.pareto import ParetoPoint
    from planner.cli.since import Since
    from planner.core.errors import InfeasibleError
    from planner.core.metrics import Metrics
    from planner.core.plan import Plan
    from planner.core.problem import Problem
    from planner.files.alternatives import Api
    from planner.files.manifest import Manifest
    from planner.files.runsection import RunSection
    from planner.files.scenario import Scenario
    from planner.plan.replan import Most
    from planner.plan.solution import Solution
    from planner.report.plan import PlanReport


def plan(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="MANIFEST", help="File to write the plan to, with all it rests on."
        ),
    ] = None,
    algorithm: Annotated[
        Literal["auto", "even", "memory", "tflops", "greedy", "petals", "cg-bp", "fixed-order"],
        typer.Option(help="Search for the best plan, or make the one a simpler planner makes."),
    ] = "auto",
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="Also search for the plans that trade price for speed and quality.",
        ),
    ] = False,
    before: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Start from the plan that runs: mend it, or move where that pays.",
        ),
    ] = None,
    min_gain: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="PCT", help="Gain for which --from moves weights, in percent."
        ),
    ] = 5.0,
    max_moved: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most weights that --from moves, such as '20 GB'."),
    ] = None,
    max_downtime: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest that nodes load for --from, such as '90 s'."),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="End the search then, with the best plan so far and what it may be off.",
        ),
    ] = None,
    equal_weights: Annotated[
        bool,
        typer.Option(
            "--equal-weights", help="Have all pipelines share alike, for routers that cannot weigh."
        ),
    ] = False,
    html: HtmlOption = None,
    judge: Annotated[
        Literal["formulas", "simulation"],
        typer.Option(help="What ranks the best candidates: expected values, or a simulation."),
    ] = "formulas",
    seed: SeedOption = 0,
    overrides: SetOption = None,
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Choose the plan that serves a scenario best, and say why.

    The manifest holds the problem, the plan and the prediction; simulate and run take it.
    Exit code 4 if no plan meets the must-haves: then the binding one and the nearest miss are
    printed and no manifest is written.

    After a node joined, left or slowed down, `--from` starts with the plan that runs: it says what
    changed, what moves and what that costs, and keeps what runs unless `--min-gain` is gained.
    `--max-moved` and `--max-downtime` limit what is loaded, and how long; exit code 4 if that
    leaves no plan.

    A search counts its work and no clock, so that the same inputs give the same plan; only
    `--time-limit` ends it earlier, and the manifest says so.

    Pipelines get the routing weights that suit the objective, which bound and gap are not about.
    With `--judge simulation` the best candidates are simulated: percentiles and queues decide.

    Example: `planner plan scenario.yaml --out manifest.yaml`
    """
    from planner.cli.page import planned_facts, require_plotly, write_page
    from planner.cli.since import since_then
    from planner.core.choice import decided
    from planner.files.manifest import write_manifest
    from planner.files.scenario import load_scenario
    from planner.plan.solve import solve, solve_simply

    if html is not None:
        require_plotly()
    loaded = load_scenario(scenario, profiles or [], overrides or [])
    since = since_then(before, loaded.problem) if before else None
    most, began_s = _most(max_moved, max_downtime, before), time.perf_counter()
    with _refusing(loaded, format):
        if algorithm == "auto":
            solution = solve(
                loaded.problem,
                before=since.runs if since else None,
                least_gain=min_gain / 100,
                most=most,
                judge=_simulation(seed) if judge == "simulation" else None,
                halt=_halt(time_limit),
                equal_weights=equal_weights,
            )
        else:
            solution = solve_simply(loaded.problem, algorithm)
    seconds = time.perf_counter() - began_s
    solution = _seated(loaded, solution)
    front = _front(loaded, solution) if pareto else ()
    settled = replace(loaded, problem=decided(loaded.problem, solution.plan))
    report = _report(settled, solution, seconds, front, profiles, since)
    if html is not None:
        facts = planned_facts(loaded, solution, seed, report.warnings, profiles or [])
        write_page(html, facts)
    if out is not None:
        write_manifest(out, _manifest(settled, solution, report.warnings, seed, out))
    _tell(report, format)
    console.note(f"planned in {seconds:.2f} s")
    missing = f"no manifest written; planner plan {scenario} --out manifest.yaml writes one"
    console.note(missing if out is None else f"manifest written to {out}")


def _tell(report: PlanReport, format: Format) -> None:
    console.tell(report, format)


@contextmanager
def _refusing(scenario: Scenario, format: Format) -> Iterator[None]:
    """Planning, with what is said where there is no plan."""
    from planner.core.errors import InfeasibleError

    try:
        with console.progress(f"planning {scenario.name}"):
            yield
    except InfeasibleError as error:
        _refuse(scenario.problem, error, format)
        raise


def _seated(scenario: Scenario, solution: Solution) -> Solution:
    """The solution with the coordinator's seat in its plan, where the scenario named none."""
    plan = solution.plan
    if scenario.seats_out is None or plan.coordinator is not None:
        return solution
    home = scenario.problem.cluster.coordinator
    return solution.model_copy(update={"plan": plan.model_copy(update={"coordinator": home})})


def _most(moved: str | None, downtime: str | None, before: Path | None) -> Most:
    """What may move at most of what runs; raises UsageError."""
    from planner.cli.console import quantity
    from planner.core.errors import UsageError
    from planner.plan.replan import ANY, Most

    if before is None and (moved or downtime):
        raise UsageError(
            f"{'--max-moved' if moved else '--max-downtime'} limits what --from moves",
            "name the plan that runs: --from MANIFEST",
        )
    return Most(
        ANY.bytes if moved is None else quantity("--max-moved", moved, "bytes"),
        ANY.seconds if downtime is None else quantity("--max-downtime", downtime, "s"),
    )


def _refuse(problem: Problem, error: InfeasibleError, format: Format) -> None:
    """Says what is too far away, and in JSON why no plan does."""
    from planner.advice.distance import too_far
    from planner.report.plan import infeasible_document

    far = list(too_far(problem))
    if format is Format.json:
        document = {"problem_digest": problem.digest} | infeasible_document(error)
        console.emit_json(document | {"too_far": far})
    for said in far:
        console.warn(said)


def _halt(limit_s: float | None) -> Callable[[], bool] | None:
    """Whether so many seconds have passed from now on."""
    if limit_s is None:
        return None
    ends_s = time.monotonic() + limit_s
    return lambda: time.monotonic() >= ends_s


def _simulation(seed: int) -> Callable[[Problem, Plan], Metrics]:
    """A judge that simulates the workload's own requests, the same for every plan."""
    from planner.sim.simulate import simulate

    return lambda problem, plan: simulate(problem, plan, seed).metrics


def _report(
    scenario: Scenario,
    solution: Solution,
    seconds: float,
    front: tuple[ParetoPoint, ...],
    profiles: list[Path] | None,
    since: Since | None,
) -> PlanReport:
    """The solution with what else the scenario asks to be told about it."""
    from planner.advice.distance import too_far
    from planner.advice.finetune import fine_tuned
    from planner.advice.prefix import prefix_saving
    from planner.report.plan import PlanReport

    problem, trained, cached = scenario.problem, scenario.finetune, scenario.prefix_cache
    notes = (*scenario.warnings, *too_far(problem), *_egress(scenario, solution, profiles))
    notes += since.warnings if since else ()
    api = _cheapest(scenario, profiles) if cached else None
    return PlanReport(
        problem,
        solution,
        seconds,
        notes,
        front=front,
        seats_out=scenario.seats_out or {},
        drift=since.drift if since else None,
        finetune=(trained, fine_tuned(problem, solution.plan, trained)) if trained else None,
        prefix=(
            (cached, prefix_saving(problem, solution.plan, cached, api.price if api else None))
            if cached
            else None
        ),
    )


def _cheapest(scenario: Scenario, profiles: list[Path] | None) -> Api | None:
    """The API that asks least for an output token of the scenario's model."""
    import datetime

    from planner.files.alternatives import cheapest_tokens
    from planner.files.catalogue import Catalogue

    known = Catalogue(scenario.path.parent, profiles or [])
    return cheapest_tokens(scenario.problem, known, datetime.date.today())


def _front(scenario: Scenario, solution: Solution) -> tuple[ParetoPoint, ...]:
    """The plans that nothing beats in price, speed, availability and quality at once."""
    from planner.advice.front import front, front_points
    from planner.plan.solve import searched

    with console.progress("searching for what price buys"):
        found = front(scenario.problem, searched)
    return front_points(scenario.problem, found, solution.plan)


def _egress(scenario: Scenario, solution: Solution, profiles: list[Path] | None) -> tuple[str, ...]:
    """Hops of the plan whose bytes cost something, against what an API asks for the tokens."""
    from planner.advice.metered import metered_hops

    hops = metered_hops(scenario.problem, solution.plan)
    if not hops:
        return ()
    api = _cheapest(scenario, profiles)
    usd = api.price.usd_per_output_token * 1e6 if api else None
    told = (hop for hop in hops if usd is None or hop.usd > usd / 100)
    return tuple(hop.text(usd, api.name if api else "") for hop in told)


def _manifest(
    scenario: Scenario, solution: Solution, warnings: tuple[str, ...], seed: int, out: Path
) -> Manifest:
    """The manifest of a solution, to be written to ``out``."""
    from planner.files.manifest import Bound, Manifest, ObjectiveValue, plan_digest
    from planner.plan.reasons import reasons
    from planner.report.plan import objective_document

    problem = scenario.problem
    return Manifest(
        problem_digest=problem.digest,
        plan_digest=plan_digest(solution.plan),
        seed=seed,
        objective=ObjectiveValue.model_validate(objective_document(problem, solution.value)),
        bound=Bound(value=solution.bound, gap=solution.gap, weights=solution.bound_weights),
        solver=solution.solver,
        stopped=solution.stopped,
        warnings=warnings,
        run=_moved(scenario.run, scenario.path.parent, out.parent),
        plan=solution.plan,
        prediction=solution.prediction,
        reasons=reasons(solution),
        problem=problem,
    )


def _moved(run: RunSection | None, src: Path, dst: Path) -> RunSection | None:
    """The run section with checkpoint paths that lead on from the manifest's folder."""
    if run is None:
        return None
    changes: dict[str, object] = {"checkpoint": _leads_on(run.checkpoint, src, dst)}
    if run.draft is not None:
        own = {"checkpoint": _leads_on(run.draft.checkpoint, src, dst)}
        changes["draft"] = run.draft.model_copy(update=own)
    return run.model_copy(update=changes)


def _leads_on(checkpoint: str | None, src: Path, dst: Path) -> str | None:
    if checkpoint is None or Path(checkpoint).is_absolute():
        return checkpoint
    return os.path.relpath(src / checkpoint, dst)
