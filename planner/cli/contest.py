"""Contest: the plans and APIs that meet the same requests."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from planner.advice.alternative import Kind, Option
from planner.cli import console
from planner.core.errors import InfeasibleError
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.prices import FRESH_DAYS
from planner.core.problem import Problem
from planner.files.alternatives import Api, default_alternatives
from planner.files.catalogue import Catalogue
from planner.files.manifest import Manifest
from planner.files.offers import Offer, PriceTag, Unavailable
from planner.files.scenario import Scenario
from planner.plan.reasons import Reasons, reasons
from planner.plan.solution import Candidate, Solution


@dataclass(frozen=True, slots=True)
class Contestant:
    """A plan that is to be simulated."""

    name: str
    kind: Kind
    problem: Problem
    plan: Plan
    prediction: Prediction
    plans: tuple[Plan, ...] = ()
    """All plans that were found, the best first."""
    gap: float | None = None
    reasons: Reasons = field(default_factory=Reasons)
    warnings: tuple[str, ...] = ()
    tags: tuple[PriceTag, ...] = ()
    """Prices it rests on, where they are from a list."""

    @property
    def option(self) -> Option:
        """The same as something whose inputs can be moved."""
        used = _used(self.tags, self.plan)
        return Option(
            name=self.name,
            kind=self.kind,
            problem=self.problem,
            plans=self.plans or (self.plan,),
            source="; ".join(dict.fromkeys(tag.source for tag in used)),
            as_of=min((tag.as_of for tag in used), default=None),
        )


def solved(scenario: Scenario, solution: Solution) -> Contestant:
    """A scenario with the plan that was chosen for it, and why."""
    return Contestant(
        scenario.name,
        "scenario",
        scenario.problem,
        solution.plan,
        solution.prediction,
        plans=tuple(one.plan for one in solution.candidates),
        gap=solution.gap,
        reasons=reasons(solution),
        warnings=(*scenario.warnings, *solution.warnings, *solution.prediction.warnings),
    )


@dataclass(slots=True)
class Contest:
    """Plans of manifests, plans made for scenarios and their alternatives, and APIs."""

    requests: int | None
    """Replaces the number of requests that the workloads say."""
    known: Callable[[Scenario], Catalogue]
    """Where a scenario's price lists are looked up."""
    today: datetime.date
    explained: bool = False
    """Whether the reasons of plans are wanted, which take their time."""
    contestants: list[Contestant] = field(default_factory=list)
    apis: list[Api] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Alternatives without a plan, with the reason."""

    def add(self, target: Scenario | Manifest, *, alternatives: bool = True) -> None:
        """A target, and what it is compared with; raises InfeasibleError."""
        if isinstance(target, Manifest):
            self.enter(
                Contestant(
                    target.problem.name,
                    "manifest",
                    target.problem,
                    target.plan,
                    target.prediction,
                    gap=target.bound.gap,
                    reasons=target.reasons,
                    warnings=target.warnings,
                )
            )
            return
        self.enter(self._planned(target))
        if alternatives:
            self.compete_with(target)

    def compete_with(self, target: Scenario) -> None:
        """The alternatives that a scenario names, or those that everybody has."""
        others: Sequence[Scenario | Api | Offer | Unavailable] = target.alternatives
        if not target.named:
            others = default_alternatives(target.problem, self.known(target), self.today)
        for other in others:
            self.compete(other)

    def compete(self, other: Scenario | Api | Offer | Unavailable) -> None:
        """Adds an alternative, or why there is none."""
        if isinstance(other, Api):
            self.apis.append(other)
        elif isinstance(other, Unavailable):
            self.left_out.append((other.name, other.reason))
        else:
            kind: Kind = "scenario" if isinstance(other, Scenario) else other.kind
            tags = () if isinstance(other, Scenario) else other.tags
            try:
                self.enter(self._found(other.name, kind, other.problem, tags))
            except InfeasibleError as error:
                self.left_out.append((other.name, error.message))

    def _planned(self, scenario: Scenario) -> Contestant:
        """The plan of a scenario that is asked about."""
        from planner.plan.solve import searched, solve  # scipy takes half a second to import

        if not self.explained:
            with console.progress(f"planning {scenario.name}"):
                found = searched(scenario.problem)
            if found:
                return self._of(scenario.name, "scenario", scenario.problem, found)
        with console.progress(f"planning {scenario.name}"):
            solution = solve(scenario.problem)
        return solved(scenario, solution)

    def _found(
        self, name: str, kind: Kind, problem: Problem, tags: tuple[PriceTag, ...]
    ) -> Contestant:
        """The plan of an alternative, or the one that comes nearest to the must-haves."""
        from planner.plan.solve import searched, solve

        with console.progress(f"planning {name}"):
            found = searched(problem)
            if found:
                return self._of(name, kind, problem, found, tags)
            try:
                nearest = solve(problem)
            except InfeasibleError as error:
                given = getattr(error, "nearest", None)
                if not isinstance(given, Solution):
                    raise
                nearest = given
        return Contestant(name, kind, problem, nearest.plan, nearest.prediction, tags=tags)

    @staticmethod
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
            problem,
            found[0].plan,
            found[0].prediction,
            plans=tuple(one.plan for one in found),
            tags=tags,
            warnings=found[0].prediction.warnings,
        )

    def enter(self, one: Contestant) -> None:
        """Adds a contestant under a name of its own, with as many requests as were asked for."""
        taken = {contestant.name for contestant in self.contestants}
        number = next(n for n in range(1, len(taken) + 2) if _numbered(one.name, n) not in taken)
        problem = one.problem
        if self.requests is not None:
            workload = problem.workload.model_copy(update={"requests": self.requests})
            problem = problem.model_copy(update={"workload": workload})
        self.contestants.append(replace(one, name=_numbered(one.name, number), problem=problem))

    @property
    def compares(self) -> bool:
        """Whether there is more than one way to serve."""
        return len(self.contestants) + len(self.apis) > 1

    @property
    def tags(self) -> list[PriceTag]:
        """All prices from lists that the comparison rests on."""
        found = [tag for one in self.contestants for tag in _used(one.tags, one.plan)]
        return list(dict.fromkeys([*found, *(api.tag for api in self.apis)]))

    def stale(self) -> list[str]:
        """What to say about prices that are old, by the list they are from."""
        said = {}
        for tag in self.tags:
            days = (self.today - tag.as_of).days
            if days > FRESH_DAYS:
                said[tag.file] = (
                    f"prices from {tag.file} are up to {days} days old ({tag.as_of}); "
                    "planner prices refresh gets newer rents"
                )
        return list(said.values())

    def options(self, asked: Problem | None = None) -> list[Option]:
        """Everything that competes, as something whose inputs can be moved; the first one first.

        APIs answer the requests of ``asked``, of the first contestant where it is None.
        """
        first = asked or self.contestants[0].problem
        found = [contestant.option for contestant in self.contestants]
        for api in {(api.price, api.prices.id): api for api in self.apis}.values():
            found.append(
                Option(
                    name=api.name,
                    kind="api",
                    problem=first,
                    price=api.price,
                    source=api.tag.source,
                    as_of=api.as_of,
                )
            )
        return found


def replanned(problem: Problem) -> tuple[Plan, ...]:
    """The plans of a problem, best first; none where nothing meets the must-haves."""
    from planner.plan.solve import searched

    return tuple(one.plan for one in searched(problem))


def _used(tags: Sequence[PriceTag], plan: Plan) -> list[PriceTag]:
    """The prices of machines in a plan, and all that are not of a machine."""
    nodes = "\n".join(plan.nodes)
    return [tag for tag in tags if not tag.node or tag.node in nodes.split("\n")]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"
