"""Alternative: one way to serve the requests, and what comes of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from planner.core.cost.ledger import CostKind, CostLine, total_usd_per_hour
from planner.core.metrics import Metrics
from planner.core.plan import Plan
from planner.core.prices import TokenPrice
from planner.core.problem import Problem
from planner.core.requirements import Miss
from planner.core.spec import Spec
from planner.plan.predict import predict
from planner.plan.promise import as_cost, objective_value
from planner.plan.quality import plan_quality

Kind = Literal["scenario", "manifest", "on_demand", "spot", "reserved", "market", "own", "api"]


class Alternative(Spec):
    """A way to serve the requests, with what it costs and how well it serves."""

    name: str
    kind: Kind
    metrics: Metrics
    """Predicted, or means over the replications of a simulation."""
    confidence: dict[str, tuple[float, float]] = {}  # noqa: RUF012 (pydantic copies defaults)
    """95 % interval of the means, by metric."""
    quality: float | None = None
    """Share of the unquantised quality that is kept; None where unknown."""
    lines: tuple[CostLine, ...] = ()
    missed: tuple[Miss, ...] = ()
    """Must-haves that do not hold."""
    unknown: tuple[str, ...] = ()
    """Metrics that must-haves bound and nobody published."""
    machines: tuple[str, ...] = ()
    """Nodes that hold layers."""
    source: str = ""
    """Where its prices are from."""
    as_of: datetime.date | None = None
    """Day of its oldest price."""

    @property
    def is_api(self) -> bool:
        """Whether it is paid by the token."""
        return self.kind == "api"

    @property
    def may_serve(self) -> bool:
        """Whether no must-have is known to be missed."""
        return not self.missed


@dataclass(frozen=True, slots=True)
class Option:
    """A way to serve the requests that can be evaluated again when an input changes."""

    name: str
    kind: Kind
    problem: Problem
    """Its machines under the requests and requirements; of an API only the latter count."""
    plans: tuple[Plan, ...] = ()
    """Plans to choose from, the best one today first; none for an API."""
    price: TokenPrice | None = None
    source: str = ""
    as_of: datetime.date | None = None

    def under(self, problem: Problem) -> Option:
        """The same way under other circumstances."""
        return replace(self, problem=problem)


def predicted(option: Option) -> Alternative:
    """What the cost model says of an option: its best plan under today's circumstances.

    A plan that misses must-haves counts only where all do.
    """
    if option.price is not None:
        return api_alternative(option)
    must = option.problem.requirements.must_have
    best: tuple[tuple[int, float], Alternative] | None = None
    for plan in option.plans:
        prediction = predict(option.problem, plan)
        value = objective_value(option.problem, prediction.metrics)
        misses = (*must.missed(prediction.metrics), *_overload(option.problem, prediction.metrics))
        cost = float("inf") if value is None else as_cost(option.problem, value)
        if best is None or (len(misses), cost) < best[0]:
            found = Alternative(
                name=option.name,
                kind=option.kind,
                metrics=prediction.metrics,
                quality=plan_quality(option.problem, plan),
                lines=prediction.cost_lines,
                machines=plan.nodes,
                missed=misses,
                source=option.source,
                as_of=option.as_of,
            )
            best = ((len(misses), cost), found)
    if best is None:
        raise ValueError(f"{option.name} has neither plans nor a price")
    return best[1]


def _overload(problem: Problem, metrics: Metrics) -> tuple[Miss, ...]:
    """The rate of requests as a bound that a plan breaks which cannot keep up with them."""
    rate = problem.workload.requests_per_s
    if rate is None or metrics.mean_e2el_ms is not None:
        return ()
    return (Miss(metric="request_throughput", value=metrics.request_throughput, bound=rate),)


def api_alternative(
    option: Option, served: Sequence[tuple[int, int]] = (), tokens_per_s: float | None = None
) -> Alternative:
    """What an API asks for the requests, and how fast it is where somebody measured that.

    ``served`` are prompt and output tokens of the requests, those of the workload in the mean
    where it is empty. An API answers as many at once as are sent; ``tokens_per_s`` is the rate at
    which requests came where neither the workload nor its own speed says it.
    """
    price, problem = option.price, option.problem
    assert price is not None
    workload = problem.workload
    prompt, output = workload.prompts.mean_tokens, workload.output.mean_tokens
    if served:
        prompt = sum(one for one, _ in served) / len(served)
        output = sum(other for _, other in served) / len(served)
    timed: dict[str, float] = {}
    if price.ttft_s is not None:
        timed["mean_ttft_ms"] = price.ttft_s * 1e3
    if price.tokens_per_s:
        timed["mean_tpot_ms"] = 1e3 / price.tokens_per_s
    rate = tokens_per_s or 0.0
    if workload.requests_per_s is not None:
        rate = workload.requests_per_s * output
    elif len(timed) == 2 and workload.concurrency is not None:
        each_s = (timed["mean_ttft_ms"] + (output - 1) * timed["mean_tpot_ms"]) / 1e3
        timed["mean_e2el_ms"] = each_s * 1e3
        rate = workload.concurrency * output / each_s
    lines = _token_lines(problem, price, prompt, output, rate)
    usd = total_usd_per_hour(lines)
    each_usd = price.request_usd(prompt, output)
    metrics = Metrics.model_validate(
        timed
        | {
            "output_throughput": rate if rate else None,
            "usd_per_hour": usd if rate else None,
            "usd_per_million_output_tokens": each_usd / output * 1e6,
        }
    )
    must = problem.requirements.must_have
    misses = must.missed(metrics)
    return Alternative(
        name=option.name,
        kind="api",
        metrics=metrics,
        lines=lines,
        missed=tuple(miss for miss in misses if miss.value is not None),
        unknown=(
            *(miss.metric for miss in misses if miss.value is None),
            *(("quality",) if must.quality is not None else ()),
        ),
        source=option.source,
        as_of=option.as_of,
    )


def _token_lines(
    problem: Problem, price: TokenPrice, prompt: float, output: float, tokens_per_s: float
) -> tuple[CostLine, ...]:
    """What an API charges in an hour, prompts and answers apart."""
    hourly = tokens_per_s / output * 3600 * problem.deployment.in_use
    parts: tuple[tuple[CostKind, str, float, float], ...] = (
        ("tokens", "prompts", prompt, price.usd_per_input_token),
        ("tokens", "answers", output, price.usd_per_output_token),
        ("retries", "prompts", prompt * (price.tries - 1), price.usd_per_input_token),
    )
    lines = [
        CostLine(
            kind=kind,
            where=where,
            usd_per_hour=count * each * hourly,
            note=f"{count * hourly / 1e6:.3g} million tokens at {each * 1e6:.3g} USD/Mtok",
        )
        for kind, where, count, each in parts
    ]
    return tuple(line for line in lines if line.usd_per_hour)
