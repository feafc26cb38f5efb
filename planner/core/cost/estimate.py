"""Estimate: one stage on one node without any network, in the terms of a benchmark client."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.memory import StageMemory, stage_memory
from planner.core.cost.stagetime import StageTime
from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme
from planner.core.speculation import Speculation


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a node: ``batch`` requests of the same size at a time, again and again."""

    prompt_tokens: int
    output_tokens: int
    batch: int = 1
    cached_tokens: int = 0
    """Tokens of the context that are in the cache before the prompt."""

    @property
    def held_tokens(self) -> int:
        """Most tokens in a request's cache."""
        return self.cached_tokens + self.prompt_tokens + self.output_tokens

    @property
    def context_tokens(self) -> float:
        """Mean tokens in a request's cache while it decodes."""
        return self.cached_tokens + self.prompt_tokens + self.output_tokens / 2


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
    admission_steps: float = 0.5
    """Tokens that others get before a newcomer's first one."""
    first_wave: float = 0.1
    """Share of requests that come all at once."""

    @property
    def between_s(self) -> float:
        """Seconds per decode step that other requests' prompts take, in the mean."""
        return self.tpot_s * self.tokens_per_step - self.step_s

    @property
    def prompt_s(self) -> float:
        """Seconds of one prompt, nothing else in its way."""
        return self.prefill.total_s + self.coordinator_s

    @property
    def decode_s(self) -> float:
        """Seconds of all decode steps of a request, if no prompt came between."""
        return max(0.0, self.load.output_tokens - 1) * self.step_s / self.tokens_per_step

    @property
    def ttft_s(self) -> float:
        """Seconds to the first token, in the mean of a benchmark client's requests.

        The prompt itself, the tokens that others get before the engine looks for it and answers,
        prompts that wait before it (M/D/1, Pollaczek-Khinchine, at the share of time that the
        others' prompts take), and the client's first wave, all at once.
        """
        others = self.load.batch - 1
        if others <= 0:
            return self.request_s + self.prompt_s
        busy = min(0.95, others * self.prompt_s / self._round_s)
        queue_s = busy / (2 * (1 - busy)) * self.prompt_s
        wave_s = others / 2 * self.prompt_s * self.first_wave
        halt_s = self.admission_steps * self._gap_s
        return self.request_s + self.prompt_s + halt_s + queue_s + wave_s

    @property
    def _round_s(self) -> float:
        """From one request of a user to the next: its decoding, and everybody's prompts."""
        return self.request_s + self.decode_s + self.load.batch * self.prompt_s

    @property
    def _gap_s(self) -> float:
        """From token to token of a request, others' prompts between them, in the mean."""
        later = self.load.output_tokens - 1
        own_s = self.request_s + self.prompt_s
        return (self._round_s - own_s) / later if later > 0 else self.step_s

    @property
    def step_s(self) -> float:
        """Seconds of one decode step."""
        return self.decode.total_s + self.coordinator_s + self.draft_s

    @property
    def tpot_s(self) -> float:
        """Seconds per output token after the first, other requests' prompts between them.

        The node works on one thing at a time, so what a round takes beyond its first token is
        what the later tokens take.
        """
        later = self.load.output_tokens - 1
        alone_s = self.step_s / self.tokens_per_step
        return max(alone_s, (self._round_s - self.ttft_s) / later) if later > 0 else alone_s

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens computed per second."""
        return self.load.prompt_tokens / self.prefill.total_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Output tokens per second of all sequences of the batch while none has a prompt."""
        return self.load.batch * self.tokens_per_step / self.step_s

    @property
    def fits(self) -> bool:
        """Whether the node's memory holds weights, cache and workspace."""
        return self.memory.total_bytes <= self.capacity_bytes

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the cache could hold beside all else, in sequences of this length."""
        left_bytes = self.capacity_bytes - (self.memory.total_bytes - self.memory.kv_bytes)
        return max(
            0, int(left_bytes / self.memory.kv_bytes * self.load.batch * self.load.held_tokens)
        )


def estimate(
    model: ModelSpec,
    quant: QuantScheme,
    device: Device,
    count: int,
    engine: Engine,
    load: Load,
    speculation: Speculation | None = None,
    kv_bytes: float | None = None,
) -> Estimate:
    """What the cost model says of ``model`` on ``count`` devices of one node.

    A decode step is priced at the mean context of a request, its prompt and half its output.
    ``kv_bytes`` is set aside for the KV cache where an engine is told so; otherwise it may have
    what weights and workspace leave. Raises ValueError where the engine has no calibration for
    the device or the scheme.
    """
    chip = Chip.of(engine, device, count)
    layers = model.num_hidden_layers
    prompt = Batch.prefill(load.prompt_tokens, load.cached_tokens)
    checked = 1 + (speculation.draft_tokens if speculation else 0)
    decode = Batch.decode(load.batch, load.batch * load.context_tokens, checked)
    draft_s = speculation.draft_s if speculation else 0.0
    memory = stage_memory(
        model,
        0,
        layers,
        quant,
        engine,
        load.batch,
        load.held_tokens,
        max(min(load.prompt_tokens, engine.prefill_chunk or load.prompt_tokens), load.batch),
        count,
    )
    capacity_bytes = engine.memory_fraction * device.memory_bytes * count
    if kv_bytes is not None:
        capacity_bytes = min(capacity_bytes, memory.total_bytes - memory.kv_bytes + kv_bytes)
    return Estimate(
        load=load,
        prefill=stage_time(model, 0, layers, quant, chip, prompt),
        decode=stage_time(model, 0, layers, quant, chip, decode),
        coordinator_s=engine.coordinator_step_s,
        request_s=engine.request_s,
        memory=memory,
        capacity_bytes=capacity_bytes,
        tokens_per_step=speculation.tokens_per_round if speculation else 1.0,
        draft_s=draft_s,
        admission_steps=engine.admission_steps
        if chip.calibration.admission_steps is None
        else chip.calibration.admission_steps,
        first_wave=engine.first_wave,
    )
