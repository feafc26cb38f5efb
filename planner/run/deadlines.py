"""Deadlines: how long a worker may take for something before it counts as lost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from planner.core.cost import Batch, chip, stage_time, transfer_time
from planner.core.cost.transfer import hidden_payload_bytes
from planner.core.problem import Problem
from planner.run.crew import Post, Worker
from planner.run.fleet import Fleet
from planner.run.history import Cached

_SLACK = 10.0
"""How many times longer than predicted a step may take before its stage counts as hung."""
_ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What the predictions for a problem leave the workers of a fleet (s)."""

    fleet: Fleet
    problem: Problem

    @property
    def answer_s(self) -> float:
        """For an answer that needs no computing."""
        links = self.problem.cluster.links
        farthest_s = max((link.one_way_latency_s for link in links), default=0.0)
        return self.problem.serving.detect_s + _ANSWER_S + 4 * farthest_s

    def step_s(self, worker: Worker) -> float:
        """For one step: the longest prompt, with slack."""
        if worker.post is None:
            return math.inf
        longest = Batch.prefill(self.fleet.slot_tokens)
        return self.problem.serving.detect_s + _SLACK * self._predicted_s(worker.post, longest)

    def replay_s(self, post: Post, live: Iterable[Cached]) -> float:
        """For the next replayed frame, which has to come and be computed."""
        tokens = max((tokens for _, _, tokens in live), default=1)
        pipeline = self.fleet.plan.pipelines[post[0]]
        nodes = (self.problem.cluster.coordinator, *pipeline.nodes)
        quant = self.problem.quant(pipeline.stages[post[1]].quant)
        link = self.problem.cluster.link(nodes[post[1]], self.fleet.holders[post].node)
        size_bytes = hidden_payload_bytes(self.problem.model, quant, tokens)
        sent_s = transfer_time(link, size_bytes, self.problem.engine, "prefill").total_s
        computed_s = self._predicted_s(post, Batch.prefill(tokens))
        return self.answer_s + _SLACK * (sent_s + computed_s)

    def _predicted_s(self, post: Post, batch: Batch) -> float:
        stage = self.fleet.stage(post)
        quant, device = self.problem.quant(stage.quant), chip(self.problem, stage.node)
        return stage_time(self.problem.model, stage.start, stage.stop, quant, device, batch).total_s
