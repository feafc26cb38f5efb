"""predict: Problem, Plan -> Prediction, from the cost model and the serving rules alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.core.choice import decided
from planner.core.cost import Activity, CostLine, Traversal, ledger, traverse
from planner.core.cost.egress import egress
from planner.core.cost.ledger import hidden, parts, total_usd_per_hour
from planner.core.cost.outage import Outage, outage
from planner.core.cost.room import kv_blocks
from planner.core.cost.traversal import route
from planner.core.cost.verification import AuditLoad, audit_load, verification_cost, verifier
from planner.core.metrics import Metrics, usd_per_million
from planner.core.plan import Pipeline, Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.core.trust import Trust, together
from planner.plan.activity import by_holders, merged, pipeline_activity, thinned
from planner.plan.breakdown import Served, broken_down
from planner.plan.coordinator import at_one_coordinator
from planner.plan.goodput import answered_share, goodput, lost_s, outages
from planner.plan.load import Load
from planner.plan.quality import plan_quality
from planner.plan.queueing import Felt, Steps, felt
from planner.plan.reuse import reuse
from planner.plan.room import capacity_bytes, stage_needs
from planner.plan.routed import as_routed
from planner.plan.tails import mixed
from planner.plan.times import decode_batch, over_steps

_NEARLY_FULL = 0.9
"""Share of what a pipeline can serve above which its waits are hardly predicted."""
_TURNS, _SETTLED_TOKENS = 30, 1e-3
"""Looks until what a prefix cache has and the rate of requests agree, to so many tokens."""


def predict(problem: Problem, plan: Plan) -> Prediction:
    """What the cost model says about ``plan``; raises LookupError where a hop has no link."""
    problem = decided(problem, plan)
    return predicted(problem, plan, served_by(problem, plan))


def metrics(problem: Problem, plan: Plan) -> Metrics:
    """The metrics of a prediction alone, which take less time: most plans are only compared."""
    problem = decided(problem, plan)
    served = served_by(problem, plan)
    return metrics_of(problem, plan, served, outages(problem, plan, served))


def served_by(problem: Problem, plan: Plan) -> list[Served]:
    """The pipelines under their shares of the load, whatever stands by."""
    pairs = list(zip(plan.pipelines, pipeline_shares(plan), strict=True))

    def served(waits_s: float) -> list[Served]:
        return [serve(problem, pipeline, share, waits_s) for pipeline, share in pairs]

    return at_one_coordinator(problem, served)


def predicted(problem: Problem, plan: Plan, served: list[Served]) -> Prediction:
    """The same of pipelines that are already known under their shares of the load."""
    out = outages(problem, plan, served)
    activity, load, lines = _charged(problem, plan, served, out)
    lost = [lost_s(problem, *pair) for pair in zip(served, out, strict=True)]
    audits_usd = hidden(lines).get("verification", 0.0)
    trusted = together(_trusted(problem, plan))
    return Prediction(
        metrics=_metrics(problem, plan, served, out, lines),
        pipelines=tuple(broken_down(problem, *pair) for pair in zip(served, lost, strict=True)),
        cost_usd_per_hour=parts(lines),
        cost_lines=lines,
        verification=verification_cost(
            problem, plan, load, sum(activity.busy.values()), audits_usd
        ),
        quality=plan_quality(problem, plan),
        tier=trusted.tier,
        error_band=trusted.band.figures if trusted.band else None,
        new=trusted.new,
        error_bands=trusted.bands_figures,
        warnings=tuple(_warnings(problem, plan, served)),
    )


def metrics_of(
    problem: Problem, plan: Plan, served: list[Served], out: Sequence[Outage]
) -> Metrics:
    """The metrics of a prediction alone."""
    return _metrics(problem, plan, served, out, _charged(problem, plan, served, out)[2])


def unpaid_metrics(
    problem: Problem, plan: Plan, served: list[Served], out: Sequence[Outage]
) -> Metrics:
    """The same but for what the plan costs, which is not added up."""
    return _metrics(problem, plan, served, out, ())


def _charged(
    problem: Problem, plan: Plan, served: list[Served], out: Sequence[Outage]
) -> tuple[Activity, AuditLoad, tuple[CostLine, ...]]:
    """What the nodes do, audits apart, and what all of it costs."""
    shares = _answered(problem, served, out)
    done = zip(served, shares, strict=True)
    activity = merged([thinned(one.activity, share) for one, share in done])
    activity = by_holders(problem, plan, activity)
    load = audit_load(
        problem,
        plan,
        [one.felt.requests_per_s * share for one, share in zip(served, shares, strict=True)],
        problem.workload.prompts.mean_tokens,
        problem.workload.output.mean_tokens,
    )
    audited = replace(activity, audit=load.busy, audit_bytes=load.sent_bytes)
    return activity, load, ledger(problem, plan, audited)


def _answered(problem: Problem, served: list[Served], out: Sequence[Outage]) -> list[float]:
    """Share of its requests that each pipeline answers in the long run."""
    return [answered_share(problem, *pair) for pair in zip(served, out, strict=True)]


def alone_usd_per_hour(problem: Problem, one: Served) -> float:
    """What a pipeline by itself costs that nobody stands by for, audits apart."""
    alone = Plan(pipelines=(one.pipeline,))
    share = answered_share(problem, one, outage(problem, alone, 0, one.felt.batch))
    return total_usd_per_hour(
        ledger(problem, alone, by_holders(problem, alone, thinned(one.activity, share)))
    )


def _trusted(problem: Problem, plan: Plan) -> list[Trust]:
    """What the times of each stage rest on."""
    return [
        problem.engine.trust(problem.cluster.device(stage.node), problem.model.id, stage.quant)
        for pipeline in plan.pipelines
        for stage in pipeline.stages
    ]


def pipeline_shares(plan: Plan) -> list[float]:
    """Share of the requests that each pipeline gets."""
    total = sum(pipeline.weight for pipeline in plan.pipelines)
    return [pipeline.weight / total for pipeline in plan.pipelines]


def load_of(problem: Problem, seats: int, groups: int, share: float) -> Load:
    """What a pipeline with that share of the requests has to serve.

    Where prompts find a prefix it is the best that may be: nothing is lost, and what is computed
    of them is as alike as it can be.
    """
    kept = reuse(problem, share)
    users, rate = problem.workload.concurrency, problem.workload.requests_per_s
    return Load(
        problem.workload,
        seats,
        groups,
        None if users is None else users * share,
        None if rate is None else rate * share,
        problem.engine.request_s,
        problem.serving.tokens_per_round,
        problem.serving.checked_tokens,
        kept.found_tokens if kept else None,
        kept.least_unevenness if kept else problem.workload.prompts.unevenness,
        problem.serving.luck,
        problem.requirements.must_have.latency_bounds_s(),
        share,
        problem.continuous,
    )


def serve(problem: Problem, pipeline: Pipeline, share: float, waits_s: float = 0.0) -> Served:
    """One pipeline under its share of the load, each job of it waiting so long to be sent."""
    load = load_of(problem, pipeline.max_num_seqs, pipeline.micro_batches, share)

    def over_request_s(time_s: Callable[[Traversal], float], batch: float) -> float:
        def step_s(step: float) -> float:
            return time_s(traverse(problem, pipeline, decode_batch(load, batch, step)))

        return over_steps(step_s, load.steps)

    sums = [over_request_s(lambda way: waits_s + way.total_s, batch) for batch in load.batches]
    gaps = [0.0] * len(sums)
    if load.groups > 1:
        gaps = [over_request_s(gap_s, batch) for batch in load.batches]
    load, steps, prefill, result = _settled(
        problem, pipeline, share, load, tuple(sums), tuple(gaps), waits_s
    )
    batch = max(1.0, result.batch / load.groups)
    decode = traverse(problem, pipeline, decode_batch(load, batch, (load.steps + 1) / 2))
    activity = pipeline_activity(problem, pipeline, load, result, prefill, decode)
    by_hop = _egress_usd_per_hour(problem, pipeline, activity)
    return Served(pipeline, load, steps, result, prefill, decode, activity, by_hop, waits_s)


def _settled(
    problem: Problem,
    pipeline: Pipeline,
    share: float,
    load: Load,
    sums_s: tuple[float, ...],
    gaps_s: tuple[float, ...],
    waits_s: float,
) -> tuple[Load, Steps, Traversal, Felt]:
    """The load with what prompts find in the cache at the rate that this leads to.

    The faster requests are answered, the sooner blocks are needed again.
    """
    kept = reuse(problem, share)
    for _ in range(_TURNS):
        if kept is not None and load.found_tokens is not None:
            load = replace(load, prompt_unevenness=kept.unevenness(load.found_tokens))
        prefill = traverse(problem, pipeline, load.prompt)
        steps = Steps(waits_s + prefill.total_s, gap_s(prefill), sums_s, gaps_s)
        result = felt(load, steps)
        if kept is None or load.found_tokens is None:
            break
        free = kv_blocks(problem, pipeline) - result.batch * kept.running_blocks
        moved = kept.found_after(result.requests_per_s, max(0.0, free)) - load.found_tokens
        if abs(moved) < _SETTLED_TOKENS:
            break
        load = replace(load, found_tokens=load.found_tokens + moved / 2)
    return load, steps, prefill, result


def gap_s(way: Traversal) -> float:
    """Least time between two equal jobs that follow each other on this way."""
    return max(way.bottleneck_s, way.coordinator_s)


def _egress_usd_per_hour(problem: Problem, pipeline: Pipeline, sent: Activity) -> tuple[float, ...]:
    """What the bytes of each hop cost; hops over one line share its price by their number."""
    share = problem.deployment.in_use
    charges = egress(
        problem.cluster, {ends: size * share for ends, size in sent.sent_bytes.items()}
    )
    ways = route(problem, pipeline.nodes)
    return tuple(
        charges[ends].usd_per_hour / ways.count(ends) if ends in charges else 0.0 for ends in ways
    )


def _metrics(
    problem: Problem,
    plan: Plan,
    served: list[Served],
    out: Sequence[Outage],
    lines: tuple[CostLine, ...],
) -> Metrics:
    """Latencies over all requests, and beside them as objectives count them where that differs.

    In a closed loop a faster replica serves its users more of the requests; of those that come on
    their own the router sends it more.
    """
    values: dict[str, float | None] = {}
    shares, each = pipeline_shares(plan), as_routed(problem, served)
    rates = [one.requests_per_s for one in each]
    rate = sum(rates)
    for name in ("ttft", "tpot", "e2el"):
        said = [getattr(one, f"{name}_s") for one in each]
        weighed = [getattr(one.felt, f"{name}_s") for one in served]
        for statistic in ("mean", "median", "p95", "p99"):
            if not all(statistic in sample for sample in said):
                continue
            of_all = [sample[statistic] for sample in said]
            mean = statistic == "mean"
            value = _weighed(rates, of_all) / rate if mean else mixed(rates, said, statistic)
            values[f"{statistic}_{name}_ms"] = 1e3 * value
            if statistic == "median" or len(each) == 1:
                continue
            counted = [sample[statistic] for sample in weighed]
            own = f"user_{name}_ms" if mean else f"worst_{statistic}_{name}_ms"
            values[own] = 1e3 * (_weighed(shares, counted) if mean else max(counted))
    values["mean_itl_ms"] = values.get("mean_tpot_ms")
    output = rate * problem.workload.output.mean_tokens
    answered = problem.workload.output.mean_tokens * math.fsum(
        one.felt.requests_per_s * share
        for one, share in zip(served, _answered(problem, served, out), strict=True)
    )
    values |= {
        "request_throughput": rate,
        "output_throughput": output,
        "total_token_throughput": output + rate * problem.workload.prompts.mean_tokens,
        "request_goodput": math.fsum(
            goodput(one, lost_s(problem, one, lost)) for one, lost in zip(served, out, strict=True)
        ),
        "availability": sum(s * lost.availability for s, lost in zip(shares, out, strict=True)),
        "usd_per_hour": total_usd_per_hour(lines),
        "usd_per_million_output_tokens": usd_per_million(
            total_usd_per_hour(lines), answered * problem.deployment.in_use
        )
        if answered
        else None,
    }
    return Metrics.model_validate(values)


def _weighed(weights: list[float], values: list[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _warnings(problem: Problem, plan: Plan, served: list[Served]) -> list[str]:
    said = []
    for index, one in enumerate(served):
        if one.felt.overloaded:
            said.append(
                f"pipeline {index} is overloaded: it can serve "
                f"{one.felt.requests_per_s:.3g} requests/s"
            )
        elif one.load.users is None and one.felt.used > _NEARLY_FULL:
            said.append(
                f"pipeline {index} serves {one.felt.used:.0%} of what it can: formulas tell waits "
                "there badly; simulate before you rely on them, or have a simulation judge "
                "(--judge simulation)"
            )
    if plan_quality(problem, plan) is None:
        said.append("the effect of the quantization on this model family was never published")
    for name in plan.nodes:
        node, device = problem.cluster.node(name), problem.cluster.device(name)
        if node.usd_per_joule and device.tdp_w is None:
            said.append(f"the power of {device.id} is unknown: its electricity counts as 0 USD")
        room = capacity_bytes(problem, name)
        for pipeline in plan.pipelines:
            for stage in pipeline.stages:
                if stage.node != name:
                    continue
                used = stage_needs(problem, stage, pipeline.max_num_seqs)
                if used.total_bytes > 0.95 * room:
                    said.append(f"{name} is {used.total_bytes / room:.0%} full")
        if node.churn and not any(
            plan.pipelines[standby.pipeline].nodes[standby.stage] == name
            for standby in plan.standbys
        ):
            said.append(f"{name} comes and goes ({node.churn}); no standby takes over")
    if problem.serving.verification is not None:
        said += [
            f"nobody can audit {stage.node}: a standby could, or a coordinator with a device"
            for index, pipeline in enumerate(plan.pipelines)
            for number, stage in enumerate(pipeline.stages)
            if verifier(problem, plan, index, number) is None
        ]
    if any(stage.tier == 0 for stage in _trusted(problem, plan)):
        said.append("some speeds are datasheet figures with engine defaults, not measured ones")
    return said
