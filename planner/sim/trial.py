"""Trial: one simulation of a grid, as a value that can be sent to another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.workload import Request
from planner.sim.result import SimResult
from planner.sim.simulate import simulate


@dataclass(frozen=True, slots=True)
class Trial:
    """What is simulated, and how."""

    problem: Problem
    plan: Plan
    seed: int
    requests: Sequence[Request] | None = None
    """Requests that replace those of the workload and come at their own times."""
    visits: bool = False
    exact_steps: bool = False
    check: bool = False


def run_trial(trial: Trial) -> SimResult:
    """The result of a trial, the same wherever it runs."""
    return simulate(
        trial.problem,
        trial.plan,
        trial.seed,
        trial.requests,
        trial.visits,
        own_times=trial.requests is not None,
        exact_steps=trial.exact_steps,
        check=trial.check,
    )
