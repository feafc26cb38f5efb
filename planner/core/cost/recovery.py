"""Recovery: what it takes a standby to take over a stage, from noticing the loss on."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import stage_time
from planner.core.cost.loading import download_s, load_s
from planner.core.cost.transfer import hidden_payload_bytes, token_payload_bytes, transfer_time
from planner.core.cost.traversal import chip
from planner.core.plan import Plan, Standby
from planner.core.problem import Problem


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds by cause; they follow each other."""

    download_s: float
    """The weights come over the link from the coordinator: cold standbys only."""
    load_s: float
    """They are loaded from disk: all but hot ones."""
    takeover_s: float
    replay_s: float
    """The stored inputs of the sequences that have a seat are sent and computed again."""

    @property
    def total_s(self) -> float:
        """From noticing the loss until the pipeline works."""
        return self.download_s + self.load_s + self.takeover_s + self.replay_s


def recovery(problem: Problem, plan: Plan, standby: Standby, sequences: float) -> Recovery:
    """What taking over takes while ``sequences`` are half-way through their answers.

    Raises LookupError where no link leads to the standby.
    """
    pipeline = plan.pipelines[standby.pipeline]
    stage, seats = pipeline.stages[standby.stage], pipeline.max_num_seqs
    taken = stage.model_copy(update={"node": standby.node})
    return Recovery(
        download_s(problem, stage, standby.node) if standby.state == "cold" else 0.0,
        load_s(problem, taken, standby.node, seats) if standby.state != "hot" else 0.0,
        problem.engine.takeover_s,
        _replay_s(problem, plan, standby, sequences),
    )


def _replay_s(problem: Problem, plan: Plan, standby: Standby, sequences: float) -> float:
    """Inputs go over the link in turn and are computed as they come, without the head."""
    pipeline, cluster = plan.pipelines[standby.pipeline], problem.cluster
    workload, stage = problem.workload, pipeline.stages[standby.stage]
    tokens = workload.prompts.mean_tokens + workload.output.mean_tokens / 2
    if standby.stage:
        before = pipeline.stages[standby.stage - 1]
        source, quant = before.node, problem.quant(before.quant)
        size_bytes = hidden_payload_bytes(problem.model, quant, tokens)
    else:
        source, size_bytes = cluster.coordinator, token_payload_bytes(tokens)
    way = transfer_time(cluster.link(source, standby.node), size_bytes, problem.engine, "prefill")
    computed_s = stage_time(
        problem.model,
        stage.start,
        stage.stop,
        problem.quant(stage.quant),
        chip(problem, standby.node, stage.split),
        Batch.prefill(tokens, silent=True),
    ).total_s
    rest_s = max(0.0, sequences - 1) * max(way.busy_s, computed_s)
    return way.total_s + computed_s + rest_s
