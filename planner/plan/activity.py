"""Activity of a plan as the cost model expects it: what the ledger charges for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from planner.core.cost import Activity, Traversal
from planner.core.cost.drafting import drafting_s
from planner.core.cost.ledger import paid_share, returns_per_hour, standing_usd_per_hour
from planner.core.cost.loading import weights_bytes
from planner.core.cost.outage import holding
from planner.core.cost.traversal import payloads_bytes, route
from planner.core.plan import Pipeline, Plan
from planner.core.problem import Problem
from planner.plan.load import Load
from planner.plan.queueing import Felt
from planner.plan.times import decode_batch

_HOUR_S = 3600.0
Ends = tuple[str, str]


def pipeline_activity(
    problem: Problem,
    pipeline: Pipeline,
    load: Load,
    result: Felt,
    prefill: Traversal,
    decode: Traversal,
) -> Activity:
    """What the nodes and lines of one pipeline do in an hour at the predicted rate.

    A loss has every seated sequence computed again on the stage that is back; a rented node loses
    its weights with it.
    """
    batch = _sharing(load, result, prefill)
    home = problem.cluster.coordinator
    busy, again, loaded = {}, {}, {}
    for index, stage in enumerate(pipeline.stages):
        node = problem.cluster.node(stage.node)
        prompt_s = prefill.stages[index].total_s
        request_s = prompt_s + load.steps * decode.stages[index].total_s / batch
        losses = returns_per_hour(problem, stage.node)
        again[stage.node] = min(1.0, losses * result.batch * prompt_s / _HOUR_S)
        working = result.requests_per_s * request_s + again[stage.node]
        busy[stage.node] = min(1.0, working)
        again[stage.node] = min(again[stage.node], busy[stage.node])
        if losses and node.trust == "rented" and problem.cluster.connected(home, stage.node):
            loaded[home, stage.node] = losses * weights_bytes(problem, stage)
    steps_per_s = result.requests_per_s * load.steps / batch
    drafting = steps_per_s * drafting_s(problem, decode_batch(load, batch, (load.steps + 1) / 2))
    sent: dict[Ends, float] = {}
    for ends, each_bytes in zip(
        route(problem, pipeline.nodes), request_bytes(problem, pipeline, load, batch), strict=True
    ):
        hourly = each_bytes * result.requests_per_s * _HOUR_S
        sent[ends] = sent.get(ends, 0.0) + hourly
    return Activity(
        busy=busy,
        sent_bytes=sent,
        repeated={name: share for name, share in again.items() if share},
        weights_bytes=loaded,
        drafting=min(1.0, drafting),
    )


def _sharing(load: Load, result: Felt, prefill: Traversal) -> float:
    """Sequences in a step of a group that has any: what the time of the step is shared by.

    Those of open arrivals are a Poisson number about what is under way (Little's law), so that a
    step has more than are there on average where often nobody is.
    """
    if load.users is not None or result.overloaded:
        return max(1.0, result.batch / load.groups)
    later_s = result.e2el_s["mean"] - result.ttft_s["mean"]
    each = result.requests_per_s * (prefill.total_s + later_s) / load.groups
    sharing = each / -math.expm1(-each) if each else 1.0
    return min(sharing, max(1.0, load.seats / load.groups))


def thinned(activity: Activity, share: float) -> Activity:
    """The same where only so much of the work comes to be done, as nodes come and go."""
    if share == 1:
        return activity
    return replace(
        activity,
        busy={name: busy * share for name, busy in activity.busy.items()},
        sent_bytes={ends: size * share for ends, size in activity.sent_bytes.items()},
        repeated={name: again * share for name, again in activity.repeated.items()},
        drafting=activity.drafting * share,
    )


def by_holders(problem: Problem, plan: Plan, activity: Activity) -> Activity:
    """The same where standbys do the work of the stages that they took, while they hold them.

    Nobody computes while it is away: what waited meanwhile is computed in larger batches.
    """
    busy, repeated = dict(activity.busy), dict(activity.repeated)
    for index, stage in dict.fromkeys((one.pipeline, one.stage) for one in plan.standbys):
        own = plan.pipelines[index].nodes[stage]
        for name, share in holding(problem, plan, index, stage).items():
            for done, whole in ((busy, activity.busy), (repeated, activity.repeated)):
                if own in whole and name != own:
                    done[name] = done.get(name, 0.0) + share * whole[own]
                    done[own] -= share * whole[own]
    busy = {name: min(share, paid_share(problem, name)) for name, share in busy.items()}
    repeated = {name: min(share, busy[name]) for name, share in repeated.items()}
    return replace(activity, busy=busy, repeated=repeated)


def merged(activities: Sequence[Activity]) -> Activity:
    """Everything that the pipelines of a plan do; they share lines, not nodes."""

    def summed(name: str) -> dict[Ends, float]:
        sums: dict[Ends, float] = {}
        for one in activities:
            for ends, size_bytes in getattr(one, name).items():
                sums[ends] = sums.get(ends, 0.0) + size_bytes
        return sums

    def joined(name: str) -> dict[str, float]:
        return {key: value for one in activities for key, value in getattr(one, name).items()}

    return Activity(
        busy=joined("busy"),
        sent_bytes=summed("sent_bytes"),
        repeated=joined("repeated"),
        weights_bytes=summed("weights_bytes"),
        drafting=min(1.0, math.fsum(one.drafting for one in activities)),
    )


def request_bytes(
    problem: Problem, pipeline: Pipeline, load: Load, batch: float
) -> tuple[float, ...]:
    """Bytes that one request sends over each hop, frames included."""
    prompt = payloads_bytes(problem, pipeline, load.prompt)
    step = payloads_bytes(problem, pipeline, decode_batch(load, batch, 1))
    frame = problem.engine.frame_bytes
    return tuple(
        prompt_bytes + frame + load.steps * (step_bytes + frame) / batch
        for prompt_bytes, step_bytes in zip(prompt, step, strict=True)
    )


def home_usd_per_hour(problem: Problem) -> float:
    """What the coordinator's node costs whatever it does; at least, where it may sit at several."""
    nodes = map(problem.cluster.node, problem.cluster.seats)
    return min(standing_usd_per_hour(problem, node) for node in nodes)


def rents_usd_per_hour(problem: Problem, names: Sequence[str]) -> list[float]:
    """What nodes cost whatever they do; nothing more where the coordinator may sit."""
    cluster = problem.cluster
    return [
        0.0 if name in cluster.seats else standing_usd_per_hour(problem, cluster.node(name))
        for name in names
    ]
