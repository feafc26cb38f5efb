"""Price of audits: what it costs to compute a stage of a session again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, head_time, stage_time
from planner.core.cost.egress import Ends
from planner.core.cost.transfer import hidden_payload_bytes, token_payload_bytes
from planner.core.cost.traversal import chip as chip_of
from planner.core.model import ModelSpec
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.quant import QuantScheme
from planner.core.spec import Spec

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class AuditCost:
    """What one audit of one stage for one session takes."""

    compute_s: float
    """Time of the verifier: the stage once more, as one prefill over all positions."""
    traffic_bytes: float
    """What entered the stage and left its layers, which the verifier fetches."""


def audit_cost(
    model: ModelSpec,
    start: int,
    stop: int,
    quant: QuantScheme,
    chip: Chip,
    prompt_tokens: float,
    output_tokens: float,
) -> AuditCost:
    """Cost of computing layers ``[start, stop)`` of a session again on another node.

    The last output token never goes through the stage, hence one position less. All positions
    are computed in one go, whatever the engine does with long prompts, and on the last stage
    the head is asked about every output token, not about one.
    """
    positions = prompt_tokens + output_tokens - 1
    whole = replace(chip, prefill_chunk=None)
    again_s = stage_time(model, start, stop, quant, whole, Batch.prefill(positions)).total_s
    left_bytes = hidden_payload_bytes(model, quant, positions)
    entered_bytes = token_payload_bytes(positions) if start == 0 else left_bytes
    if stop == model.num_hidden_layers:
        picked = head_time(model, quant, whole, Batch.decode(output_tokens, 0))
        again_s += picked.total_s - head_time(model, quant, whole, Batch.prefill(1)).total_s
    return AuditCost(again_s, entered_bytes + left_bytes)


def session_s(
    model: ModelSpec,
    start: int,
    stop: int,
    quant: QuantScheme,
    chip: Chip,
    prompt_tokens: float,
    output_tokens: float,
    batch: float,
) -> float:
    """Time of a stage that one session of a batch of ``batch`` equal ones accounts for (s).

    The share of an audit in it grows with the batch: sequences share the reading of the weights,
    audits do not make it cheaper.
    """
    prefill = stage_time(model, start, stop, quant, chip, Batch.prefill(prompt_tokens))
    middle = prompt_tokens + output_tokens / 2
    step = stage_time(model, start, stop, quant, chip, Batch.decode(batch, batch * middle))
    return prefill.total_s + (output_tokens - 1) * step.total_s / batch


class VerificationCost(Spec):
    """What the audits of a plan come to."""

    audit_share: float
    """Share of the sessions of every stage that is computed again."""
    sessions_until_caught: float | None
    """Sessions until a cheating node is caught with a chance of 95 %; None without audits."""
    verifiers: dict[str, str | None]
    """Who audits each node; None where nobody else could hold its layers."""
    overhead: float
    """Time of audits over the time of the stages themselves."""
    audit_s_per_hour: float
    """Time of all verifiers."""
    busy: float
    """The stages' own share of an hour, added up."""
    each_s: dict[str, float]
    """Time of one audit by the node whose work it is."""
    traffic_bytes_per_hour: float
    usd_per_hour: float
    """Its lines in the ledger."""


@dataclass(frozen=True, slots=True)
class AuditLoad:
    """What an hour of audits asks of machines and lines."""

    busy: dict[str, float] = field(default_factory=dict)
    """Share of the hour in which each verifier computes them."""
    sent_bytes: dict[Ends, float] = field(default_factory=dict)
    each_s: dict[str, float] = field(default_factory=dict)
    """Time of one audit by the node whose work it is."""


def verifier(problem: Problem, plan: Plan, pipeline: int, stage: int) -> str | None:
    """Who audits a stage: its first standby, else the coordinator's host if it has a device.

    Never the node of the stage itself, unless that is the coordinator's, which is trusted anyway.
    None where nobody is left.
    """
    own, home = plan.pipelines[pipeline].stages[stage].node, problem.cluster.coordinator
    for standby in plan.standbys:
        if (standby.pipeline, standby.stage) == (pipeline, stage) and standby.node != own:
            return standby.node
    return home if problem.cluster.node(home).device is not None else None


def audit_load(
    problem: Problem,
    plan: Plan,
    sessions_per_s: Sequence[float],
    prompt_tokens: float,
    output_tokens: float,
) -> AuditLoad:
    """Audits of an hour in which each pipeline ends so many sessions per second, in the mean."""
    asked = problem.serving.verification
    load = AuditLoad()
    if asked is None:
        return load
    for index, (pipeline, rate) in enumerate(zip(plan.pipelines, sessions_per_s, strict=True)):
        for number, stage in enumerate(pipeline.stages):
            who = verifier(problem, plan, index, number)
            if who is None:
                continue
            quant = problem.quant(stage.quant)
            ends = (stage.start, stage.stop, quant, chip_of(problem, who))
            once = audit_cost(problem.model, *ends, prompt_tokens, output_tokens)
            load.each_s[stage.node] = once.compute_s
            hourly = rate * asked.probability * _HOUR_S
            load.busy[who] = load.busy.get(who, 0.0) + hourly * once.compute_s / _HOUR_S
            way = (stage.node, who)
            load.sent_bytes[way] = load.sent_bytes.get(way, 0.0) + hourly * once.traffic_bytes
    return load


def drawn_overhead(cost: VerificationCost, drawn: Mapping[str, int], lasted_s: float) -> float:
    """Time of some audits of each node over the time of the stages in ``lasted_s``."""
    audits_s = sum(count * cost.each_s.get(node, 0.0) for node, count in drawn.items())
    return audits_s / (cost.busy * lasted_s) if cost.busy else 0.0


def verification_cost(
    problem: Problem, plan: Plan, load: AuditLoad, busy: float, usd_per_hour: float
) -> VerificationCost | None:
    """The figures of the audits; ``busy`` as there."""
    asked = problem.serving.verification
    if asked is None:
        return None
    audit_s = sum(load.busy.values()) * _HOUR_S
    return VerificationCost(
        audit_share=asked.probability,
        sessions_until_caught=asked.sessions_until_caught() if asked.probability else None,
        verifiers={
            stage.node: verifier(problem, plan, index, number)
            for index, pipeline in enumerate(plan.pipelines)
            for number, stage in enumerate(pipeline.stages)
        },
        overhead=audit_s / (busy * _HOUR_S) if busy else 0.0,
        audit_s_per_hour=audit_s,
        busy=busy,
        each_s=load.each_s,
        traffic_bytes_per_hour=sum(load.sent_bytes.values()),
        usd_per_hour=usd_per_hour,
    )


def averaged(costs: Sequence[VerificationCost | None]) -> VerificationCost | None:
    """The mean over replications of one plan; None where there are no audits."""
    known = [cost for cost in costs if cost is not None]
    if not known:
        return None
    figures = ("overhead", "audit_s_per_hour", "busy", "traffic_bytes_per_hour", "usd_per_hour")
    means = {name: sum(getattr(one, name) for one in known) / len(known) for name in figures}
    return known[0].model_copy(update=means)
