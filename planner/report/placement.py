"""One pipeline of a plan: who holds what, how full it is, and where the time of a token goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from planner.core.metrics import Metrics
from planner.core.prediction import PipelinePrediction, Prediction, StagePrediction
from planner.core.problem import Problem
from planner.core.requirements import MustHave
from planner.core.words import asked_text, figure, label
from planner.plan.breakdown import coordinator_parts, round_s
from planner.report.tables import GIB, Lines, bar, duration, gauge, grid, table

if TYPE_CHECKING:
    from rich.table import Table

_STAGE_CAUSES = {
    "weights": "reading weights",
    "compute": "matrix products",
    "kv": "reading the KV cache",
    "attention": "attention",
    "sync": "synchronising devices",
    "overhead": "engine overhead",
}
_HOP_CAUSES = {
    "serialise": "sending",
    "propagate": "latency",
    "relay": "software of the hop",
    "ramp": "slow start",
}
COORDINATOR_CAUSES = {
    "schedule": "scheduling and sampling",
    "draft": "drafting",
    "wait": "waiting for other pipelines' jobs",
}
_SMALLEST = 0.005
KEPT = "kept by the search"
"""What is said of a must-have that bounds no figure."""


def pipeline_text(problem: Problem, prediction: Prediction, index: int, title: str) -> Lines:
    """Tables of one pipeline: its stages and hops, then the parts of a token's time."""
    predicted = prediction.pipelines[index]
    step_s = round_s(problem, predicted)
    yield title
    yield _stages(problem, predicted, step_s)
    yield ""
    yield (
        f"Where the time of one token goes: {duration(step_s)} per {step_name(problem)} "
        f"of {predicted.batch:.3g} request{'s' * (f'{predicted.batch:.3g}' != '1')}"
    )
    yield _parts(problem, predicted, step_s)
    if predicted.limited_by:
        yield f"  mostly {predicted.limited_by}"
    if predicted.prefix_found is not None:
        found = predicted.prefix_found
        yield f"Of a prompt {found:.0%} is expected in the prefix cache from the turns before it."
    if predicted.prefill_overlap_s:
        saved = duration(predicted.prefill_overlap_s)
        yield f"Stages compute different chunks of a prompt at once, which saves {saved}."


def step_name(problem: Problem) -> str:
    """What brings every request its next tokens."""
    speculation = problem.serving.speculation
    if speculation is None:
        return "decode step"
    return f"draft-and-verify round ({speculation.tokens_per_round:.3g} tokens)"


def must_have_rows(
    must: MustHave, prediction: Prediction, trial: Metrics | None = None
) -> list[tuple[str, str, str]]:
    """Every must-have that is asked: its name, its bound and what is predicted, or tried."""
    rows = []
    for metric, name, bound in asked(must):
        if metric == "max_nodes":
            used = len([stage for one in prediction.pipelines for stage in one.stages])
            told = f"{used} used"
        elif metric:
            value = getattr(prediction if metric == "quality" else prediction.metrics, metric, None)
            told = f"{figure(metric, value)} predicted"
            if trial is not None and metric not in ("quality", "availability"):
                told += f", {figure(metric, getattr(trial, metric, None))} simulated"
        else:
            told = KEPT
        rows.append((name, bound, told))
    return rows


def asked(must: MustHave) -> Iterator[tuple[str, str, str]]:
    """Every must-have that is asked: the metric it bounds, if any, its name and its bound."""
    for name, bound in must.model_dump(exclude_none=True).items():
        metric, scale = name, 1.0
        if name.endswith("_s"):
            metric, scale = name.removesuffix("_s") + "_ms", 1e3
        if name == "max_nodes":
            yield name, "nodes", f"at most {bound}"
        elif isinstance(bound, (int, float)):
            yield metric, label(metric), asked_text(metric, bound * scale)
        elif bound:
            yield "", name.replace("_", " "), ", ".join(bound)


def _stages(problem: Problem, predicted: PipelinePrediction, step_s: float) -> Table:
    rows = table("node", "device", "region", "layers", "quant", "memory", ">time", ">share")
    for number, hop in enumerate(predicted.hops):
        hop_s = sum(hop.decode_s.values())
        if hop.src != hop.dst:
            rows.add_row(
                f"-> {hop.dst}", "", "", "", "", "", duration(hop_s), f"{_share(hop_s, step_s):.0%}"
            )
        if number < len(predicted.stages):
            rows.add_row(*_stage_row(problem, predicted.stages[number], step_s))
    return rows


def _stage_row(problem: Problem, stage: StagePrediction, step_s: float) -> tuple[str, ...]:
    node = problem.cluster.node(stage.node)
    used = sum(stage.memory_bytes.values())
    decode_s = sum(stage.decode_s.values())
    times = f"{node.count} x " if node.count > 1 else ""
    return (
        stage.node,
        f"{times}{node.device}",
        node.region,
        f"{stage.start} to {stage.stop - 1}",
        stage.quant,
        f"{gauge(used, stage.capacity_bytes)} {_of(used, stage.capacity_bytes)}",
        duration(decode_s),
        f"{_share(decode_s, step_s):.0%}",
    )


def _parts(problem: Problem, predicted: PipelinePrediction, step_s: float) -> Table:
    """Parts of a decode step that matter, largest first; the rest in one line."""
    own_s = coordinator_parts(problem, predicted.batch, predicted.waits_s)
    home = problem.cluster.coordinator
    found = [(seconds, COORDINATOR_CAUSES[name], home) for name, seconds in own_s.items()]
    for stage in predicted.stages:
        found += [
            (s, _STAGE_CAUSES.get(name, name), stage.node) for name, s in stage.decode_s.items()
        ]
    for hop in predicted.hops:
        way = f"{hop.src} -> {hop.dst}"
        found += [(s, _HOP_CAUSES.get(name, name), way) for name, s in hop.decode_s.items()]
    found.sort(key=lambda part: -part[0])
    shown = [part for part in found if part[0] >= _SMALLEST * step_s > 0]
    rows = grid("<", "<", ">", ">", "<")
    for seconds, cause, where in shown:
        share = _share(seconds, step_s)
        rows.add_row(f"  {where}", cause, duration(seconds), f"{share:.1%}", bar(share))
    rest_s = step_s - sum(part[0] for part in shown)
    if rest_s > 1e-9 * step_s:
        rows.add_row("  the rest", "", duration(rest_s), f"{_share(rest_s, step_s):.1%}", "")
    return rows


def _of(used_bytes: float, whole_bytes: float) -> str:
    return f"{used_bytes / GIB:.3g}/{whole_bytes / GIB:.3g} GiB"


def _share(seconds: float, whole_s: float) -> float:
    return seconds / whole_s if whole_s else 0.0
