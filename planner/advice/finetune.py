"""Fine-tuning over a plan: time of a step, traffic both ways, memory with the optimiser, price."""

from __future__ import annotations

from planner.core.cost import Batch, stage_memory, transfer_time, traverse
from planner.core.cost.transfer import hidden_payload_bytes
from planner.core.finetune import (
    GRADIENT_BITS,
    KEPT,
    OPTIMISER_BYTES,
    FineTune,
    adapter_params,
)
from planner.core.plan import Plan, Stage
from planner.core.problem import Problem
from planner.core.spec import Spec
from planner.plan.room import capacity_bytes


class TrainedStage(Spec):
    """One stage of a pipeline that trains."""

    node: str
    forward_s: float
    """Of a micro-batch."""
    backward_s: float
    memory_bytes: dict[str, float]
    """By use."""
    capacity_bytes: float

    @property
    def fits(self) -> bool:
        """Whether it has the memory."""
        return sum(self.memory_bytes.values()) <= self.capacity_bytes


class TrainedHop(Spec):
    """What a step sends between two stages."""

    src: str
    dst: str
    forward_bytes: float
    """Hidden states of all tokens of a step."""
    backward_bytes: float
    """Their gradients, the other way."""
    seconds: float
    """Of a micro-batch, both ways."""
    usd: float
    """Of a step, at listed prices."""


class FineTuned(Spec):
    """What training adapters over the first pipeline of a plan takes."""

    stages: tuple[TrainedStage, ...]
    hops: tuple[TrainedHop, ...]
    adapter_params: int
    step_s: float
    tokens_per_s: float
    hours: float
    """Of all steps."""
    usd: float
    """Rent of the pipeline's nodes for that time, and egress."""

    @property
    def fits(self) -> bool:
        """Whether every stage has the memory."""
        return all(stage.fits for stage in self.stages)


def fine_tuned(problem: Problem, plan: Plan, asked: FineTune) -> FineTuned:
    """Training adapters over the first pipeline of a plan.

    Weights stay frozen, so the way back costs the products once more for the gradients of the
    hidden states; and once again where they are recomputed. Micro-batches follow each other: a
    step lasts as long as the first one takes, and the slowest stage or line for each other one.
    Raises LookupError where a hop has no link back.
    """
    pipeline = plan.pipelines[0]
    forward = traverse(problem, pipeline, Batch.prefill(asked.sequence_tokens))
    stages = []
    for index, stage in enumerate(pipeline.stages):
        ahead_s = forward.stages[index].total_s
        stages.append(
            TrainedStage(
                node=stage.node,
                forward_s=ahead_s,
                backward_s=ahead_s * (2 if asked.recompute else 1),
                memory_bytes=_memory_bytes(problem, stage, asked),
                capacity_bytes=capacity_bytes(problem, stage.node),
            )
        )
    pairs = zip(pipeline.stages, pipeline.stages[1:], strict=False)
    hops = [_hop(problem, first, second, asked) for first, second in pairs]
    through_s = [stage.forward_s + stage.backward_s for stage in stages]
    across_s = [hop.seconds for hop in hops]
    others = asked.micro_batches - 1
    step_s = sum(through_s) + sum(across_s) + others * max(*through_s, *across_s, 0.0)
    hours = asked.steps * step_s / 3600
    rent = sum(problem.cluster.node(stage.node).usd_per_hour for stage in pipeline.stages)
    return FineTuned(
        stages=tuple(stages),
        hops=tuple(hops),
        adapter_params=problem.model.num_hidden_layers * adapter_params(problem.model, asked.rank),
        step_s=step_s,
        tokens_per_s=asked.step_tokens / step_s,
        hours=hours,
        usd=rent * hours + asked.steps * sum(hop.usd for hop in hops),
    )


def _memory_bytes(problem: Problem, stage: Stage, asked: FineTune) -> dict[str, float]:
    """Frozen weights, adapters with their optimiser, and what is kept for the way back.

    All micro-batches of a step are under way before the first comes back (GPipe, Huang et al.,
    NeurIPS 2019). Of each the input of every layer is kept, or all that a layer needs where
    nothing is recomputed; while one layer is recomputed it needs all of that, too.
    """
    model, quant = problem.model, problem.quant(stage.quant)
    held = stage_memory(
        model, stage.start, stage.stop, quant, problem.engine, 0, 0, asked.sequence_tokens
    )
    layers = stage.stop - stage.start
    state = asked.sequence_tokens * model.hidden_size * model.residual_streams * 2.0
    kept = state * layers * asked.micro_batches * (1 if asked.recompute else KEPT)
    return {
        "weights": held.weights_bytes,
        "adapters": layers * adapter_params(model, asked.rank) * OPTIMISER_BYTES,
        "activations": kept + held.activation_bytes + KEPT * state,
        "reserve": held.reserve_bytes,
    }


def _hop(problem: Problem, first: Stage, second: Stage, asked: FineTune) -> TrainedHop:
    ends = (first.node, second.node)
    there, back = problem.cluster.link(*ends), problem.cluster.link(*reversed(ends))
    model = problem.model
    ahead = hidden_payload_bytes(model, problem.quant(first.quant), asked.sequence_tokens)
    behind = asked.sequence_tokens * model.hidden_size * model.residual_streams * GRADIENT_BITS / 8
    seconds = sum(
        transfer_time(link, size_bytes, problem.engine, "prefill").total_s
        for link, size_bytes in ((there, ahead), (back, behind))
    )
    usd = asked.micro_batches * (
        ahead * (there.usd_per_byte if there else 0.0)
        + behind * (back.usd_per_byte if back else 0.0)
    )
    return TrainedHop(
        src=first.node,
        dst=second.node,
        forward_bytes=ahead * asked.micro_batches,
        backward_bytes=behind * asked.micro_batches,
        seconds=seconds,
        usd=usd,
    )
