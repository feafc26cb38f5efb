"""Promise: metrics from criteria, optimistic while the criteria are lower bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.cluster import Node
from planner.core.metrics import Metrics, usd_per_million
from planner.core.problem import Problem
from planner.core.requirements import OBJECTIVES
from planner.plan.queueing import Felt, Load, Steps, felt

_LATENCY_OBJECTIVES = {"tpot": "tpot_s", "ttft": "ttft_s", "e2el": "e2el_s"}


@dataclass(frozen=True, slots=True)
class Promise:
    """What one pipeline can give at best."""

    cost: float
    """Part of the objective that this pipeline brings, to be minimised; infinite if refused."""
    requests_per_s: float
    usd_per_hour: float
    """Without the rent of the coordinator, which is paid in any case."""


REFUSED = Promise(math.inf, 0.0, math.inf)


def promise(
    problem: Problem, load: Load, vector: Sequence[float], nodes: Sequence[Node], share: float
) -> Promise:
    """The best a pipeline over ``nodes`` can give, if its criteria are at least ``vector``."""
    home = problem.cluster.coordinator
    rent = sum(node.usd_per_hour for node in nodes if node.id != home)
    return promise_at(problem, load, vector, rent, share)


def promise_at(
    problem: Problem, load: Load, vector: Sequence[float], rent: float, share: float
) -> Promise:
    """The same for nodes that cost ``rent`` (USD/h), the coordinator's own left out."""
    if not all(map(math.isfinite, vector)):
        return REFUSED
    batches = len(load.batches)
    gaps = tuple(vector[2 + batches :]) or (0.0,) * batches
    result = felt(load, Steps(vector[0], vector[1], tuple(vector[2 : 2 + batches]), gaps))
    if result.overloaded or not _within(problem, result):
        return REFUSED
    home = problem.cluster.node(problem.cluster.coordinator)
    shared = rent + share * home.usd_per_hour
    return Promise(pipeline_cost(problem, result, share, shared), result.requests_per_s, rent)


def objective_value(problem: Problem, metrics: Metrics) -> float | None:
    """The objective in its own unit."""
    value: float | None = getattr(metrics, OBJECTIVES[problem.requirements.objective][0])
    return value


def as_cost(problem: Problem, value: float) -> float:
    """A value of the objective as something to be minimised."""
    return -value if OBJECTIVES[problem.requirements.objective][2] == "max" else value


def combined(problem: Problem, costs: float, requests_per_s: float, usd_per_hour: float) -> float:
    """Objective of a plan from the sums over its pipelines."""
    if problem.requirements.objective == "usd_per_million_output_tokens":
        output = requests_per_s * problem.workload.output.mean_tokens
        return usd_per_million(usd_per_hour, output) if output else math.inf
    return costs


def pipeline_cost(problem: Problem, result: Felt, share: float, usd_per_hour: float) -> float:
    """What a pipeline adds to the objective: its share of a mean, its throughput, its price."""
    objective = problem.requirements.objective
    if objective in _LATENCY_OBJECTIVES:
        sample = getattr(result, _LATENCY_OBJECTIVES[objective])
        return 1e3 * share * sample["mean"] if "mean" in sample else 0.0
    output = result.requests_per_s * problem.workload.output.mean_tokens
    return -output if objective == "throughput" else usd_per_million(usd_per_hour, output)


def _within(problem: Problem, result: Felt) -> bool:
    """Whether the pipeline meets every latency bound."""
    must = problem.requirements.must_have
    for name in ("ttft", "tpot", "e2el"):
        sample = getattr(result, f"{name}_s")
        for statistic, seconds in sample.items():
            bound = getattr(must, f"{statistic}_{name}_s", None)
            if bound is not None and seconds > bound * (1 + 1e-9):
                return False
    return True
