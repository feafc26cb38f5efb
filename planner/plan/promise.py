"""Promise: metrics from criteria, optimistic while the criteria are lower bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.core.metrics import Metrics, usd_per_million
from planner.core.plan import Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Wish, scale
from planner.plan.activity import home_usd_per_hour
from planner.plan.load import Load
from planner.plan.prompt import Prompt
from planner.plan.queueing import Felt, Steps, felt
from planner.plan.tails import STATISTICS

_LATENCIES = {
    (prefix and f"{statistic}_") + name: (statistic, f"{name}_s")
    for name in ("tpot", "ttft", "e2el")
    for statistic, prefix in (("mean", ""), ("p95", "p95"), ("p99", "p99"))
}
"""Objectives that are latencies: statistic and sample."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What one pipeline can give at best."""

    cost: float
    """Part of the objective that this pipeline brings, to be minimised; infinite if refused."""
    requests_per_s: float
    usd_per_hour: float
    """Without the rent of the coordinator, which is paid in any case."""
    goodput_cost: float = 0.0
    """Part of the cost that good requests bring, which those that are lost do not."""
    used: float = 0.0
    """Share of what it can serve that comes; of no account where users wait for their answers."""


Judge = Callable[[Sequence[float], float], Promise]

REFUSED = Promise(math.inf, 0.0, math.inf)


def judge(problem: Problem, load: Load, share: float) -> Judge:
    """Tells the best a pipeline can give, by criteria it has at least and rent (USD/h) it costs.

    The rent is without the coordinator's own.
    """
    home_usd, batches = share * home_usd_per_hour(problem), len(load.batches)
    bounds_s = _bounds_s(problem.requirements.must_have)
    names = {statistic for _, statistic, _ in bounds_s}
    names |= {_LATENCIES[term][0] for term in problem.requirements.terms if term in _LATENCIES}
    wanted = {name: percent for name, percent in STATISTICS.items() if name in names}
    no_gaps = (0.0,) * batches
    behind = Prompt.of(problem, load).behind

    def promise(vector: Sequence[float], rent: float) -> Promise:
        if not all(map(math.isfinite, vector)):
            return REFUSED
        gaps = tuple(vector[2 + batches :]) or no_gaps
        prefill_s = vector[0] + behind * vector[1]
        steps = Steps(prefill_s, vector[1], tuple(vector[2 : 2 + batches]), gaps)
        result = felt(load, steps, wanted)
        if result.overloaded or not _within(bounds_s, result):
            return REFUSED
        return promised(problem, result, share, rent, home_usd)

    return promise


def promised(
    problem: Problem, result: Felt, share: float, usd_per_hour: float, home_usd: float
) -> Promise:
    """What a pipeline brings that users feel so, and that costs so much beside the home's part."""
    cost = pipeline_cost(problem, result, share, usd_per_hour + home_usd)
    weight = problem.requirements.terms.get("goodput", 0.0)
    good = -weight * result.requests_per_s * result.good
    return Promise(cost, result.requests_per_s, usd_per_hour, good, result.used)


def straight(problem: Problem, load: Load) -> bool:
    """Whether costs are quasi-concave in the criteria.

    In waves of equal requests and one group, every time is a weighted sum of them, a rate its
    inverse, and a price a rent times such a sum; times, rents and rates that are taken off make up
    concave sums. Bounds on latencies cut that off.
    """
    bounded = _bounds_s(problem.requirements.must_have)
    return load.in_waves and load.groups == 1 and not bounded


def additive(problem: Problem) -> bool:
    """Whether what pipelines bring adds up: a price per token and a percentile do not."""
    return problem.requirements.objective != "usd_per_million_output_tokens" and not worst(problem)


def worst(problem: Problem) -> bool:
    """Whether the objective is that of the worst pipeline."""
    statistic, _ = _LATENCIES.get(problem.requirements.objective, ("mean", ""))
    return statistic != "mean"


def objective_value(problem: Problem, metrics: Metrics) -> float | None:
    """The objective in its own unit."""
    return problem.requirements.value(metrics)


def as_cost(problem: Problem, value: float) -> float:
    """A value of the objective as something to be minimised."""
    return -value if scale(problem.requirements.objective)[2] == "max" else value


def combined(problem: Problem, costs: float, requests_per_s: float, usd_per_hour: float) -> float:
    """Objective of a plan from the sums over its pipelines."""
    if problem.requirements.objective == "usd_per_million_output_tokens":
        output = requests_per_s * problem.workload.output.mean_tokens * problem.deployment.in_use
        return usd_per_million(usd_per_hour, output) if output else math.inf
    return costs


def pipeline_cost(problem: Problem, result: Felt, share: float, usd_per_hour: float) -> float:
    """What a pipeline adds to the objective: its share of a mean, its throughput, its price.

    A percentile is that of the pipeline: the worst one's is the plan's. In a weighted sum it counts
    by its share, as a mean does, which is no more than the worst one's.
    """
    objective, terms = problem.requirements.objective, problem.requirements.terms
    if objective != "weighted":
        return _term(problem, objective, result, share, usd_per_hour)
    return math.fsum(
        weight
        * (share if _percentile(term) else 1.0)
        * _term(problem, term, result, share, usd_per_hour)
        for term, weight in terms.items()
    )


def _percentile(term: Wish) -> bool:
    return _LATENCIES.get(term, ("mean", ""))[0] != "mean"


def _term(problem: Problem, term: Wish, result: Felt, share: float, usd_per_hour: float) -> float:
    """What a pipeline adds to one wish."""
    if term in _LATENCIES:
        statistic, name = _LATENCIES[term]
        sample = getattr(result, name)
        if statistic == "mean":
            return 1e3 * share * sample["mean"] if "mean" in sample else 0.0
        return 1e3 * float(sample[statistic]) if statistic in sample else 0.0
    if term == "usd_per_hour":
        return usd_per_hour
    output = result.requests_per_s * problem.workload.output.mean_tokens
    if term == "throughput":
        return -output
    if term == "goodput":
        return -result.requests_per_s * result.good
    return usd_per_million(usd_per_hour, output * problem.deployment.in_use)


def keeps(problem: Problem, result: Felt) -> bool:
    """Whether a pipeline can serve its load and meets every latency bound."""
    bounds_s = _bounds_s(problem.requirements.must_have)
    return not result.overloaded and _within(bounds_s, result)


def _within(bounds_s: Sequence[tuple[str, str, float]], result: Felt) -> bool:
    """Whether the pipeline meets every latency bound."""
    for name, statistic, bound_s in bounds_s:
        seconds = getattr(result, name).get(statistic)
        if seconds is not None and seconds > bound_s * (1 + 1e-9):
            return False
    return True


def _bounds_s(must: MustHave) -> tuple[tuple[str, str, float], ...]:
    """The latencies that are bounded: sample, statistic, bound."""
    every = ((name, statistic) for name in ("ttft", "tpot", "e2el") for statistic in STATISTICS)
    return tuple(
        (f"{name}_s", statistic, bound_s)
        for name, statistic in every
        if (bound_s := getattr(must, f"{statistic}_{name}_s", None)) is not None
    )


def admissible(problem: Problem, plan: Plan, prediction: Prediction) -> bool:
    """Whether a plan keeps every must-have that is about numbers, each pipeline its latencies."""
    return kept_by(problem, plan, prediction.metrics, [one.metrics for one in prediction.pipelines])


def kept_by(problem: Problem, plan: Plan, metrics: Metrics, each: Sequence[Metrics]) -> bool:
    """The same of the metrics of a plan and those of each of its pipelines."""
    must = problem.requirements.must_have
    if must.missed(metrics):
        return False
    if must.max_nodes is not None and len(plan.nodes) > must.max_nodes:
        return False
    if any(one.mean_ttft_ms is None for one in each):
        return False
    latencies = [miss for one in each for miss in must.missed(one) if miss.metric.endswith("_ms")]
    return not latencies
