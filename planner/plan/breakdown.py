"""Breakdown: a served pipeline as stages and hops, and which part of a token weighs most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.core.cost import Activity, Batch, StageTime, Transfer, Traversal
from planner.core.cost.drafting import drafting_s
from planner.core.cost.traversal import route
from planner.core.metrics import Metrics
from planner.core.plan import Pipeline
from planner.core.prediction import HopPrediction, PipelinePrediction, StagePrediction
from planner.core.problem import Problem
from planner.plan.load import Load
from planner.plan.queueing import Felt, Steps
from planner.plan.room import capacity_bytes, stage_needs


@dataclass(frozen=True, slots=True)
class Served:
    """One pipeline under its load: what users feel and what it uses."""

    pipeline: Pipeline
    load: Load
    steps: Steps
    felt: Felt
    prefill: Traversal
    decode: Traversal
    """An expected decode step."""
    activity: Activity
    egress_usd_per_hour: tuple[float, ...]
    """By hop."""
    waits_s: float = 0.0
    """What each job waits at the coordinator for those of other pipelines."""

    @property
    def coordinator_share(self) -> float:
        """Share of the time in which the coordinator works for it."""
        batch = max(1.0, self.felt.batch / self.load.groups)
        request_s = self.prefill.coordinator_s
        request_s += self.load.steps * self.decode.coordinator_s / batch
        return self.felt.requests_per_s * request_s


def broken_down(problem: Problem, one: Served, lost_s: Mapping[str, float]) -> PipelinePrediction:
    """One pipeline's steps, memory and metrics, stage by stage and hop by hop.

    ``lost_s`` are the seconds of an hour that losses of nodes take from it.
    """
    stages = []
    for stage, prompt, step in zip(
        one.pipeline.stages, one.prefill.stages, one.decode.stages, strict=True
    ):
        memory = stage_needs(problem, stage, one.pipeline.max_num_seqs)
        stages.append(
            StagePrediction(
                node=stage.node,
                start=stage.start,
                stop=stage.stop,
                quant=stage.quant,
                prefill_s=parts(prompt),
                decode_s=parts(step),
                memory_bytes={
                    "weights": memory.weights_bytes,
                    "kv": memory.kv_bytes,
                    "activations": memory.activation_bytes,
                    "reserve": memory.reserve_bytes,
                },
                capacity_bytes=capacity_bytes(problem, stage.node),
            )
        )
    hops = tuple(
        HopPrediction(
            src=src,
            dst=dst,
            decode_s=parts(one.decode.transfers[index]),
            prefill_s=parts(one.prefill.transfers[index]),
            usd_per_hour=one.egress_usd_per_hour[index],
        )
        for index, (src, dst) in enumerate(route(problem, one.pipeline.nodes))
    )
    return PipelinePrediction(
        stages=tuple(stages),
        hops=hops,
        batch=one.felt.batch,
        metrics=pipeline_metrics(problem, one.felt),
        limited_by=limiting_parts(
            stages,
            hops,
            coordinator_parts(problem, one.felt.batch, one.waits_s),
            problem.cluster.coordinator,
        )[0][1],
        prefix_found=one.load.prefix_found,
        prefill_overlap_s=one.prefill.overlap_s,
        waits_s=one.waits_s,
        lost_s=dict(lost_s),
    )


def pipeline_metrics(problem: Problem, felt: Felt) -> Metrics:
    """What users of one pipeline feel."""
    metrics = {
        f"{statistic}_{name}_ms": 1e3 * value
        for name in ("ttft", "tpot", "e2el")
        for statistic, value in getattr(felt, f"{name}_s").items()
    }
    metrics |= {
        "request_throughput": felt.requests_per_s,
        "output_throughput": felt.requests_per_s * problem.workload.output.mean_tokens,
    }
    return Metrics.model_validate(metrics)


def parts(time: StageTime | Transfer) -> dict[str, float]:
    """Seconds by the name of the part."""
    return {
        name.removesuffix("_s"): getattr(time, name) for name in type(time).__dataclass_fields__
    }


def coordinator_parts(problem: Problem, batch: float, waits_s: float) -> dict[str, float]:
    """Seconds of one expected decode step of ``batch`` sequences at the coordinator, by cause."""
    workload = problem.workload
    cached = workload.prompts.mean_tokens + workload.output.mean_tokens / 2
    return {
        "schedule": problem.engine.coordinator_step_s,
        "draft": drafting_s(problem, Batch.decode(batch, batch * cached)),
        "wait": waits_s,
    }


_CAUSES = {
    "schedule": "scheduling on {where}",
    "draft": "drafting on {where}",
    "weights": "reading weights on {where}",
    "compute": "matrix products on {where}",
    "kv": "reading the KV cache on {where}",
    "attention": "attention on {where}",
    "sync": "synchronising the devices of {where}",
    "overhead": "engine overhead on {where}",
    "serialise": "the rate of the link {where}",
    "propagate": "the latency of the link {where}",
    "relay": "software of the hop {where}",
    "ramp": "slow start of the link {where}",
}


def limiting_parts(
    stages: list[StagePrediction],
    hops: tuple[HopPrediction, ...],
    own_s: Mapping[str, float],
    home: str,
) -> list[tuple[float, str, str]]:
    """Parts of a decode step, largest first: share of the step, in words, where.

    What waits at the coordinator waits for what others have done there: drafts, or schedules.
    """
    busy_s = own_s["schedule"] + own_s["draft"]
    longer = 1 + own_s["wait"] / busy_s if busy_s else 1.0
    found = [
        (longer * own_s[name], _CAUSES[name].format(where=home), home)
        for name in ("schedule", "draft")
    ]
    for stage in stages:
        found += [
            (s, _CAUSES[n].format(where=stage.node), stage.node) for n, s in stage.decode_s.items()
        ]
    for hop in hops:
        where = f"{hop.src} -> {hop.dst}"
        found += [(s, _CAUSES[n].format(where=where), where) for n, s in hop.decode_s.items()]
    whole_s = sum(seconds for seconds, _, _ in found) or 1.0
    found.sort(key=lambda part: -part[0])
    return [(seconds / whole_s, text, where) for seconds, text, where in found]


def round_s(problem: Problem, predicted: PipelinePrediction) -> float:
    """Seconds of one expected decode step, waits for other pipelines' jobs included."""
    stages = sum(sum(stage.decode_s.values()) for stage in predicted.stages)
    hops = sum(sum(hop.decode_s.values()) for hop in predicted.hops)
    own_s = coordinator_parts(problem, predicted.batch, predicted.waits_s)
    return stages + hops + sum(own_s.values())
