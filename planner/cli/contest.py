"""Contest: the plans and APIs that meet the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.cli import console
from planner.core.errors import InfeasibleError
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.files.manifest import Manifest
from planner.files.scenario import Api, Scenario

if TYPE_CHECKING:
    from planner.plan.reasons import Reasons


@dataclass(frozen=True, slots=True)
class Contestant:
    """A plan that is to be simulated."""

    name: str
    kind: str
    """``manifest`` or ``scenario``."""
    problem: Problem
    plan: Plan
    prediction: Prediction
    gap: float | None
    reasons: Reasons
    warnings: tuple[str, ...] = ()


class Contest:
    """Plans of manifests, plans made for scenarios and their alternatives, and APIs."""

    def __init__(self, targets: Sequence[Scenario | Manifest], requests: int | None) -> None:
        """``requests`` replaces the number that the workloads say; raises InfeasibleError."""
        self.contestants: list[Contestant] = []
        self.apis: list[Api] = []
        self.left_out: list[tuple[str, str]] = []
        """Alternatives without a plan, with the reason."""
        self._requests = requests
        for target in targets:
            self._add(target)

    def _add(self, target: Scenario | Manifest) -> None:
        if isinstance(target, Manifest):
            self._enter(
                Contestant(
                    target.problem.name,
                    "manifest",
                    target.problem,
                    target.plan,
                    target.prediction,
                    target.bound.gap,
                    target.reasons,
                    target.warnings,
                )
            )
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
        from planner.plan.reasons import reasons
        from planner.plan.solve import solve  # scipy takes half a second to import

        with console.progress(f"planning {scenario.name}"):
            solution = solve(scenario.problem)
        self._enter(
            Contestant(
                scenario.name,
                "scenario",
                scenario.problem,
                solution.plan,
                solution.prediction,
                solution.gap,
                reasons(solution),
                (*scenario.warnings, *solution.warnings, *solution.prediction.warnings),
            )
        )

    def _enter(self, one: Contestant) -> None:
        """Adds a contestant under a name of its own, with as many requests as were asked for."""
        taken = {contestant.name for contestant in self.contestants}
        number = next(n for n in range(1, len(taken) + 2) if _numbered(one.name, n) not in taken)
        problem = one.problem
        if self._requests is not None:
            workload = problem.workload.model_copy(update={"requests": self._requests})
            problem = problem.model_copy(update={"workload": workload})
        self.contestants.append(replace(one, name=_numbered(one.name, number), problem=problem))


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} #{number}"
