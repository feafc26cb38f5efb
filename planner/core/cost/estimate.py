"""Estimate: one stage on one node without any network, in the terms of a benchmark client."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, StageTime, stage_time
from planner.core.cost.memory import StageMemory, stage_memory
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.core.speculation import Speculation


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a node: ``batch`` requests of the same size at a time."""

    prompt_tokens: int
    output_tokens: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """How fast a node answers a load, and whether it can hold it."""

    load: Load
    prefill: StageTime
    """One prompt."""
    decode: StageTime
    """One step of the whole batch, at the mean context of its requests."""
    coordinator_s: float
    """Scheduling and sampling per step."""
    request_s: float
    """Before a request can be scheduled."""
    memory: StageMemory
    capacity_bytes: float
    """Memory the engine may use on the node."""
    tokens_per_step: float = 1.0
    """Expected tokens that a decode step brings each request."""
    draft_s: float = 0.0
    """Time of the draft model per decode step."""

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token of a request that finds the node idle."""
        return self.request_s + self.prefill.total_s + self.coordinator_s

    @property
    def step_s(self) -> float:
        """Seconds of one decode step."""
        return self.decode.total_s + self.coordinator_s + self.draft_s

    @property
    def tpot_s(self) -> float:
        """Seconds per output token after the first."""
        return self.step_s / self.tokens_per_step

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens computed per second."""
        return self.load.prompt_tokens / self.prefill.total_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Output tokens per second of all sequences of the batch."""
        return self.load.batch / self.tpot_s

    @property
    def fits(self) -> bool:
        """Whether the node's memory holds weights, cache and workspace."""
        return self.memory.total_bytes <= self.capacity_bytes

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the cache could hold beside all else, in sequences of this length."""
        left_bytes = self.capacity_bytes - (self.memory.total_bytes - self.memory.kv_bytes)
        held_tokens = self.load.batch * (self.load.prompt_tokens + self.load.output_tokens)
        return max(0, int(left_bytes / self.memory.kv_bytes * held_tokens))


def estimate(
    model: ModelSpec,
    quant: QuantScheme,
    device: Device,
    count: int,
    engine: Engine,
    load: Load,
    speculation: Speculation | None = None,
) -> Estimate:
    """What the cost model says of ``model`` on ``count`` devices that share every layer.

    A decode step is priced at the mean context of a request, its prompt and half its output.
    Raises ValueError where the engine has no calibration for the device or the scheme.
    """
    chip = Chip(device, engine.calibration(device), count)
    layers = model.num_hidden_layers
    context_tokens = load.batch * (load.prompt_tokens + load.output_tokens / 2)
    checked = 1 + (speculation.draft_tokens if speculation else 0)
    decode = Batch.decode(load.batch, context_tokens, checked)
    draft_s = speculation.draft_s if speculation else 0.0
    return Estimate(
        load=load,
        prefill=stage_time(model, 0, layers, quant, chip, Batch.prefill(load.prompt_tokens)),
        decode=stage_time(model, 0, layers, quant, chip, decode),
        coordinator_s=engine.coordinator_step_s,
        request_s=engine.request_s,
        memory=stage_memory(
            model,
            0,
            layers,
            quant,
            engine,
            load.batch,
            load.prompt_tokens + load.output_tokens,
            max(load.prompt_tokens, load.batch),
        ),
        capacity_bytes=engine.memory_fraction * device.memory_bytes * count,
        tokens_per_step=speculation.tokens_per_round if speculation else 1.0,
        draft_s=draft_s,
    )
