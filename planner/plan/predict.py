"""predict: Problem, Plan -> Prediction, from the cost model and the serving rules alone."""

from __future__ import annotations

from collections.abc import Callable

from planner.core.cost import Batch, Cost, Traversal, Usage, price, traverse
from planner.core.cost.availability import pipeline_availability
from planner.core.cost.money import energy_joule
from planner.core.cost.traversal import payloads_bytes, route
from planner.core.metrics import Metrics, usd_per_million
from planner.core.plan import Pipeline, Plan
from planner.core.prediction import Prediction
from planner.core.problem import Problem
from planner.plan.breakdown import Served, broken_down
from planner.plan.queueing import Felt, Load, Steps, felt
from planner.plan.room import capacity_bytes, needs
from planner.plan.times import decode_batch, over_steps

_HOUR_S = 3600.0


def predict(problem: Problem, plan: Plan) -> Prediction:
    """What the cost model says about ``plan``; raises LookupError where a hop has no link."""
    shares = pipeline_shares(plan)
    served = [
        serve(problem, pipeline, share)
        for pipeline, share in zip(plan.pipelines, shares, strict=True)
    ]
    cost = sum((part for one in served for part in one.costs.values()), Cost())
    cost += _idle_hosts(problem, plan)
    calibrations = [problem.calibration(node) for node in plan.nodes]
    bands = [entry.error_band for entry in calibrations if entry.error_band is not None]
    worst = max(bands, key=lambda band: band.median, default=None)
    return Prediction(
        metrics=_metrics(problem, plan, served, shares, cost),
        pipelines=tuple(broken_down(problem, one) for one in served),
        cost_usd_per_hour=cost.parts(),
        quality=plan_quality(problem, plan),
        tier=min(entry.tier for entry in calibrations),
        error_band={"median": worst.median, "p90": worst.p90} if worst else None,
        warnings=tuple(_warnings(problem, plan, served)),
    )


def pipeline_shares(plan: Plan) -> list[float]:
    """Share of the requests that each pipeline gets."""
    total = sum(pipeline.weight for pipeline in plan.pipelines)
    return [pipeline.weight / total for pipeline in plan.pipelines]


def load_of(problem: Problem, seats: int, groups: int, share: float) -> Load:
    """What a pipeline with that share of the requests has to serve."""
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
    )


def serve(problem: Problem, pipeline: Pipeline, share: float) -> Served:
    """One pipeline under its share of the load."""
    load = load_of(problem, pipeline.max_num_seqs, pipeline.micro_batches, share)
    prefill = traverse(problem, pipeline, Batch.prefill(load.prompt_tokens))

    def over_request_s(time_s: Callable[[Traversal], float], batch: float) -> float:
        def step_s(step: float) -> float:
            return time_s(traverse(problem, pipeline, decode_batch(load, batch, step)))

        return over_steps(step_s, load.steps)

    sums = [over_request_s(lambda way: way.total_s, batch) for batch in load.batches]
    gaps = [0.0] * len(sums)
    if load.groups > 1:
        gaps = [over_request_s(gap_s, batch) for batch in load.batches]
    steps = Steps(prefill.total_s, gap_s(prefill), tuple(sums), tuple(gaps))
    result = felt(load, steps)
    batch = max(1.0, result.batch / load.groups)
    decode = traverse(problem, pipeline, decode_batch(load, batch, (load.steps + 1) / 2))
    egress = _egress_usd_per_hour(problem, pipeline, load, result, batch)
    costs = _costs(problem, pipeline, load, result, prefill, decode, batch, egress)
    return Served(pipeline, load, result, prefill, decode, costs, egress)


def plan_quality(problem: Problem, plan: Plan) -> float | None:
    """Share of the unquantised quality that the worst stage keeps; None where unknown."""
    used = {stage.quant for pipeline in plan.pipelines for stage in pipeline.stages}
    kept = [problem.quant(quant).quality_for(problem.model.family) for quant in sorted(used)]
    known = [value for value in kept if value is not None]
    return min(known) if len(known) == len(kept) else None


def gap_s(way: Traversal) -> float:
    """Least time between two equal jobs that follow each other on this way."""
    return max(way.bottleneck_s, way.coordinator_s)


def _egress_usd_per_hour(
    problem: Problem, pipeline: Pipeline, load: Load, result: Felt, batch: float
) -> tuple[float, ...]:
    """What the bytes of each hop cost at the predicted rate."""
    prompt = payloads_bytes(problem, pipeline, Batch.prefill(load.prompt_tokens))
    step = payloads_bytes(problem, pipeline, decode_batch(load, batch, 1))
    spent = []
    frame = problem.engine.frame_bytes
    ways = route(problem, pipeline.nodes)
    for ends, prompt_bytes, step_bytes in zip(ways, prompt, step, strict=True):
        link = problem.cluster.link(*ends)
        request_bytes = prompt_bytes + frame + load.steps * (step_bytes + frame) / batch
        charged = link.usd_per_byte if link else 0.0
        usage = Usage(
            egress_bytes=request_bytes * result.requests_per_s * _HOUR_S, usd_per_byte=charged
        )
        spent.append(price(usage).egress_usd)
    return tuple(spent)


def _costs(
    problem: Problem,
    pipeline: Pipeline,
    load: Load,
    result: Felt,
    prefill: Traversal,
    decode: Traversal,
    batch: float,
    egress: tuple[float, ...],
) -> dict[str, Cost]:
    """USD per hour by node: rent, energy by the time it computes, egress of what it sends."""
    costs = {}
    for index, stage in enumerate(pipeline.stages):
        node, device = problem.cluster.node(stage.node), problem.cluster.device(stage.node)
        request_s = prefill.stages[index].total_s
        request_s += load.steps * decode.stages[index].total_s / batch
        busy_s = min(1.0, result.requests_per_s * request_s) * _HOUR_S
        joule = energy_joule(busy_s, _HOUR_S, device.tdp_w, device.idle_w) * node.count
        usage = Usage(
            rent_usd_per_hour=node.usd_per_hour,
            rented_s=_HOUR_S,
            energy_joule=joule,
            usd_per_joule=node.usd_per_joule,
        )
        sent = egress[index + 1] + (egress[0] if index == 0 else 0.0)
        costs[stage.node] = price(usage) + Cost(egress_usd=sent)
    return costs


def _idle_hosts(problem: Problem, plan: Plan) -> Cost:
    """USD per hour of a coordinator that holds no layers, and of standbys."""
    hosts = {problem.cluster.coordinator, *(standby.node for standby in plan.standbys)}
    cost = Cost()
    for name in sorted(hosts - set(plan.nodes)):
        node = problem.cluster.node(name)
        idle_w = problem.cluster.device(name).idle_w if node.device else 0.0
        joule = energy_joule(0.0, _HOUR_S, None, idle_w) * node.count
        cost += price(Usage(node.usd_per_hour, _HOUR_S, joule, node.usd_per_joule))
    return cost


def _metrics(
    problem: Problem, plan: Plan, served: list[Served], shares: list[float], cost: Cost
) -> Metrics:
    values: dict[str, float | None] = {}
    for name in ("ttft", "tpot", "e2el"):
        by_pipeline = [getattr(one.felt, f"{name}_s") for one in served]
        for statistic in ("mean", "median", "p95", "p99"):
            if all(statistic in sample for sample in by_pipeline):
                mixed = [
                    share * one[statistic] for share, one in zip(shares, by_pipeline, strict=True)
                ]
                value = sum(mixed)
                if statistic != "mean":
                    value = max(sample[statistic] for sample in by_pipeline)
                values[f"{statistic}_{name}_ms"] = 1e3 * value
    values["mean_itl_ms"] = values.get("mean_tpot_ms")
    rate = sum(one.felt.requests_per_s for one in served)
    output = rate * problem.workload.output.mean_tokens
    values |= {
        "request_throughput": rate,
        "output_throughput": output,
        "total_token_throughput": output + rate * problem.workload.prompt.mean_tokens,
        "availability": sum(
            share * pipeline_availability(problem.cluster, plan, index)
            for index, share in enumerate(shares)
        ),
        "usd_per_hour": cost.total_usd,
        "usd_per_million_output_tokens": usd_per_million(cost.total_usd, output),
    }
    return Metrics.model_validate(values)


def _warnings(problem: Problem, plan: Plan, served: list[Served]) -> list[str]:
    said = []
    for index, one in enumerate(served):
        if one.felt.overloaded:
            said.append(
                f"pipeline {index} is overloaded: it can serve "
                f"{one.felt.requests_per_s:.3g} requests/s"
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
                used = needs(problem, stage.start, stage.stop, stage.quant, pipeline.max_num_seqs)
                if used.total_bytes > 0.95 * room:
                    said.append(f"{name} is {used.total_bytes / room:.0%} full")
        if node.churn and not any(
            plan.pipelines[standby.pipeline].nodes[standby.stage] == name
            for standby in plan.standbys
        ):
            said.append(f"{name} comes and goes ({node.churn}); no standby takes over")
    if any(problem.calibration(name).tier == 0 for name in plan.nodes):
        said.append("some speeds are datasheet figures with engine defaults, not measured ones")
    return said
