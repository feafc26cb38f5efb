"""Entrants: scenarios, their alternatives and APIs as they enter a contest, planned."""

from __future__ import annotations

from collections.abc import Sequence

from planner.advice.alternative import Kind, Option
from planner.cli import console
from planner.cli.contest import Contest, Contestant, used
from planner.core.choice import decided
from planner.core.errors import InfeasibleError
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.files.alternatives import Api, default_alternatives
from planner.files.catalogue import Catalogue
from planner.files.offers import Offer, PriceTag, Unavailable
from planner.files.scenario import Scenario
from planner.plan.reasons import reasons
from planner.plan.solution import Candidate, Solution

Other = Scenario | Api | Offer | Unavailable


def solved(scenario: Scenario, solution: Solution) -> Contestant:
    """A scenario with the plan that was chosen for it, and why."""
    return Contestant(
        scenario.name,
        "scenario",
        decided(scenario.problem, solution.plan),
        solution.plan,
        solution.prediction,
        asked=scenario.problem,
        plans=tuple(one.plan for one in solution.candidates),
        gap=solution.gap,
        reasons=reasons(solution),
        warnings=(*scenario.warnings, *solution.warnings, *solution.prediction.warnings),
    )


def planned(scenario: Scenario, explained: bool) -> Contestant:
    """The plan of a scenario that is asked about; its reasons, if wanted, take their time."""
    from planner.plan.solve import searched, solve  # scipy takes half a second to import

    if not explained:
        with console.progress(f"planning {scenario.name}"):
            found = searched(scenario.problem)
        if found:
            return _of(scenario.name, "scenario", scenario.problem, found)
    with console.progress(f"planning {scenario.name}"):
        solution = solve(scenario.problem)
    return solved(scenario, solution)


def compete_with(contest: Contest, target: Scenario) -> None:
    """Adds the alternatives that a scenario names, or those that everybody has."""
    found: Sequence[Other] = target.alternatives
    if not target.named:
        known = Catalogue(target.path.parent, contest.profiles)
        found = default_alternatives(target.problem, known, contest.today)
    for other in found:
        enter(contest, other)


def enter(contest: Contest, other: Other) -> None:
    """Adds an alternative to a contest, or why there is none."""
    if isinstance(other, Api):
        contest.apis.append(other)
    elif isinstance(other, Unavailable):
        contest.left_out.append((other.name, other.reason))
    else:
        kind: Kind = "scenario" if isinstance(other, Scenario) else other.kind
        tags = () if isinstance(other, Scenario) else other.tags
        try:
            contest.enter(_found(other.name, kind, other.problem, tags))
        except InfeasibleError as error:
            contest.left_out.append((other.name, error.message))


def _found(name: str, kind: Kind, problem: Problem, tags: tuple[PriceTag, ...]) -> Contestant:
    """The plan of an alternative, or the one that comes nearest to the must-haves."""
    from planner.plan.solve import searched, solve

    with console.progress(f"planning {name}"):
        found = searched(problem)
        if found:
            return _of(name, kind, problem, found, tags)
        try:
            nearest = solve(problem, explain=False)
        except InfeasibleError as error:
            given = getattr(error, "nearest", None)
            if not isinstance(given, Solution):
                raise
            nearest = given
    settled = decided(problem, nearest.plan)
    return Contestant(
        name, kind, settled, nearest.plan, nearest.prediction, tags=tags, asked=problem
    )


def _of(
    name: str,
    kind: Kind,
    problem: Problem,
    found: Sequence[Candidate],
    tags: tuple[PriceTag, ...] = (),
) -> Contestant:
    return Contestant(
        name,
        kind,
        decided(problem, found[0].plan),
        found[0].plan,
        found[0].prediction,
        asked=problem,
        plans=tuple(one.plan for one in found),
        tags=tags,
        warnings=found[0].prediction.warnings,
    )


def options(contest: Contest) -> list[Option]:
    """Everything that competes, as something whose inputs can be moved; the first one first.

    APIs answer the requests of the first contestant.
    """
    found = [_option(contestant) for contestant in contest.contestants]
    for api in {(api.price, api.prices.id): api for api in contest.apis}.values():
        found.append(
            Option(
                name=api.name,
                kind="api",
                problem=contest.contestants[0].problem,
                price=api.price,
                source=api.tag.source,
                as_of=api.as_of,
            )
        )
    return found


def _option(one: Contestant) -> Option:
    tags, problem = used(one.tags, one.plan), one.problem
    if one.asked is not None:
        problem = one.asked.model_copy(update={"workload": problem.workload})
    return Option(
        name=one.name,
        kind=one.kind,
        problem=problem,
        plans=one.plans or (one.plan,),
        source="; ".join(dict.fromkeys(tag.source for tag in tags)),
        as_of=min((tag.as_of for tag in tags), default=None),
    )


def replanned(problem: Problem) -> tuple[Plan, ...]:
    """The best plan of a problem; none where nothing meets the must-haves."""
    from planner.plan.solve import searched

    return tuple(one.plan for one in searched(problem, best_only=True)[:1])
