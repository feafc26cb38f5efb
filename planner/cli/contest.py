"""Contest: the plans and APIs that meet the same requests."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.files.manifest import Manifest
from planner.plan.reasons import Reasons

if TYPE_CHECKING:
    from planner.advice.alternative import Kind
    from planner.files.alternatives import Api
    from planner.files.offers import PriceTag
    from planner.files.scenario import Scenario


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
    asked: Problem | None = None
    """The problem with what the plan was free to choose beside its stages."""


@dataclass(slots=True)
class Contest:
    """Plans of manifests, plans made for scenarios and their alternatives, and APIs."""

    requests: int | None
    """Replaces the number of requests that the workloads say."""
    profiles: Sequence[Path]
    """Where price lists are looked up before anywhere else."""
    today: datetime.date
    contestants: list[Contestant] = field(default_factory=list)
    apis: list[Api] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Alternatives without a plan, with the reason."""

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
        found = [tag for one in self.contestants for tag in used(one.tags, one.plan)]
        return list(dict.fromkeys([*found, *(api.tag for api in self.apis)]))

    def stale(self) -> list[str]:
        """What to say about prices that are old, rents apart: those can be fetched."""
        tags = self.tags
        if not tags:
            return []
        from planner.cli.prices import PROVIDERS
        from planner.core.prices import FRESH_DAYS

        days: dict[str, int] = {}
        for tag in tags:
            name = Path(tag.file).stem
            days[name] = max(days.get(name, 0), (self.today - tag.as_of).days)
        old = {name: age for name, age in days.items() if age > FRESH_DAYS}
        rents = [f"{name} {age} days" for name, age in old.items() if name in PROVIDERS]
        others = [f"{name} {age} days" for name, age in old.items() if name not in PROVIDERS]
        said = []
        if rents:
            told = "planner prices refresh gets newer ones"
            said.append(f"rents are old: {', '.join(rents)}; {told}")
        if others:
            told = "newer ones go into lists of these names in your own profiles/prices"
            said.append(f"prices are old: {', '.join(others)}; {told}")
        return said


def contest_of(
    loaded: Sequence[Scenario | Manifest],
    requests: int | None,
    profiles: Sequence[Path],
    alternatives: bool,
    explained: bool,
    grid: bool = False,
) -> Contest:
    """Everything that competes, planned; raises InfeasibleError.

    Reasons of plans, where they are to be ``explained``, take their time. The points of a grid are
    compared with each other; one without a plan is left out.
    """
    contest = Contest(requests, profiles, datetime.date.today())
    for target in loaded:
        if isinstance(target, Manifest):
            contest.enter(_manifest(target))
            continue
        from planner.cli import entrants  # planning takes a while to import

        if grid:
            entrants.enter(contest, target)
        else:
            contest.enter(entrants.planned(target, explained))
            if alternatives:
                entrants.compete_with(contest, target)
    return contest


def _manifest(given: Manifest) -> Contestant:
    """The plan of a manifest."""
    return Contestant(
        given.problem.name,
        "manifest",
        given.problem,
        given.plan,
        given.prediction,
        gap=given.bound.gap,
        reasons=given.reasons,
        warnings=given.warnings,
    )


def used(tags: Sequence[PriceTag], plan: Plan) -> list[PriceTag]:
    """The prices of machines in a plan, and all that are not of a machine."""
    nodes = "\n".join(plan.nodes)
    return [tag for tag in tags if not tag.node or tag.node in nodes.split("\n")]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"
