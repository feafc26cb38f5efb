"""Crowd: steps during which a host had more to compute than it has cores for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from planner.core.problem import Problem
from planner.run.measurement import StageRun
from planner.run.steps import Step


def crowded(problem: Problem, run: StageRun, step: Step, runs: Sequence[StageRun]) -> bool:
    """Whether a host's cores were all taken by other stages at some time during a step."""
    host = problem.cluster.node(run.stage.node).host
    at_once = problem.cluster.device(run.stage.node).workers_at_once
    if not host or at_once is None:
        return False
    beside = (
        other
        for other in runs
        if other is not run and problem.cluster.node(other.stage.node).host == host
    )
    return sum(_works_during(other.steps, step) for other in beside) >= at_once


def _works_during(steps: Sequence[Step], other: Step) -> bool:
    """Whether one of a stage's steps, which follow each other, overlaps with another's step."""
    before = bisect_left(steps, other.computed_s, key=lambda step: step.received_s)
    return before > 0 and steps[before - 1].computed_s > other.received_s
