"""Targets: contestants that were simulated, side by side where that pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.cli import console
from planner.cli.contest import Contestant
from planner.cli.grid import spread

if TYPE_CHECKING:
    from planner.core.cost import CostLine
    from planner.core.workload import Request
    from planner.report.simulate import Target
    from planner.sim.replicate import Replications


@dataclass(frozen=True, slots=True)
class How:
    """How contestants are simulated, and where."""

    requests: Sequence[Request] | None = None
    """What is replayed instead of the workload's own."""
    check: bool = False
    exact_steps: bool = False
    visits: bool = False
    """Whether every job is noted at every place."""
    engine: str = "processes"
    jobs: int | None = None
    address: str | None = None


def simulated(
    contestants: Sequence[Contestant], seeds: Sequence[int], how: How
) -> list[Replications]:
    """The replications of every contestant; raises CheckFailedError, RunError."""
    with console.progress("simulating", len(contestants) * len(seeds), "runs") as advance:
        return replications(contestants, seeds, how, advance)


def replications(
    contestants: Sequence[Contestant],
    seeds: Sequence[int],
    how: How,
    advance: Callable[[float], None],
) -> list[Replications]:
    """The same; ``advance`` is told of every run that is over."""
    from planner.sim.replicate import summary
    from planner.sim.trial import Trial

    trials = [
        Trial(one.problem, one.plan, seed, how.requests, how.visits, how.exact_steps, how.check)
        for one in contestants
        for seed in seeds
    ]
    results = []
    for result in spread(trials, how.engine, how.jobs, how.address):
        results.append(result)
        advance(1)
    found = []
    for number, one in enumerate(contestants):
        run = summary(results[number * len(seeds) : (number + 1) * len(seeds)])
        if how.check:
            asked = one.problem.workload.requests if how.requests is None else len(how.requests)
            check_invariants(one, run, asked)
        found.append(run)
    return found


def target_of(contestant: Contestant, run: Replications) -> Target:
    """A contestant with what its simulations say."""
    from planner.core.cost.verification import averaged
    from planner.core.outcomes import failed
    from planner.plan.quality import plan_quality
    from planner.report.churn import short_run_text
    from planner.report.simulate import Target
    from planner.sim.failures import failures
    from planner.sim.result import EVENTS

    return Target(
        name=contestant.name,
        kind=contestant.kind,
        metrics=run.metrics,
        confidence=run.confidence,
        each=tuple(result.metrics for result in run.results),
        cost=_mean([result.cost for result in run.results]),
        failures=failures(
            record
            for result in run.results
            for record in failed(result.records[contestant.problem.workload.warmup_requests :])
        ),
        events={name: sum(result.events.get(name, 0) for result in run.results) for name in EVENTS},
        prefix_tokens=(
            sum(result.prefix_tokens[0] for result in run.results),
            sum(result.prefix_tokens[1] for result in run.results),
        ),
        spent_s=_mean([one.spent_s for one in run.results if one.metrics.completed]),
        recoveries=[one for result in run.results for one in result.recoveries],
        verification=averaged([result.verification for result in run.results]),
        stage_busy=_mean([result.stage_busy for result in run.results]),
        link_busy=_mean([result.link_busy for result in run.results]),
        draft_busy=_mean([result.draft_busy for result in run.results]),
        missed=tuple(contestant.problem.requirements.must_have.missed(run.metrics)),
        quality=plan_quality(contestant.problem, contestant.plan),
        machines=contestant.plan.nodes,
        lines=_mean_lines([result.cost_lines for result in run.results]),
        short_run=short_run_text(
            contestant.problem,
            contestant.plan,
            min(result.simulated_s for result in run.results),
            contestant.prediction.metrics,
        ),
    )


def _mean(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each entry over the replications."""
    names = dict.fromkeys(name for one in several for name in one)
    return {name: sum(one.get(name, 0.0) for one in several) / len(several) for name in names}


def check_invariants(contestant: Contestant, run: Replications, requests: int) -> None:
    """Raises CheckFailedError where a run breaks what always holds."""
    from planner.core.errors import CheckFailedError
    from planner.sim.invariants import violations

    for number, result in enumerate(run.results):
        broken = violations(result, contestant.plan, requests)
        if broken:
            said = "; ".join(broken[:5])
            raise CheckFailedError(f"{contestant.name}, replication {number}: {said}")


def _mean_lines(several: Sequence[Sequence[CostLine]]) -> tuple[CostLine, ...]:
    """The mean of each cost line over the replications, with the first one's words.

    How long a node computed is of one run alone: where runs differ in that, nothing is said of it.
    """
    sums: dict[tuple[str, str, str], tuple[CostLine, float]] = {}
    for lines in several:
        for line in lines:
            key = (line.kind, line.where, line.note.split(":")[0] if ":" in line.note else "")
            first, usd = sums.get(key, (line, 0.0))
            if line.kind == "idle" and line.note != first.note:
                first = first.model_copy(update={"note": ""})
            sums[key] = (first, usd + line.usd_per_hour / len(several))
    return tuple(line.model_copy(update={"usd_per_hour": usd}) for line, usd in sums.values())
