"""Time of a stage for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency
from planner.core.model import Layer, ModelSpec
from planner.core.quant import QuantScheme


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds of one step of a stage, by cause."""

    weights_s: float = 0.0
    """Reading weights."""
    compute_s: float = 0.0
    """Matrix products beyond what hides behind reading the weights."""
    kv_s: float = 0.0
    """Reading the KV cache."""
    attention_s: float = 0.0
    """Attention arithmetic beyond what hides behind reading the cache."""
    sync_s: float = 0.0
    """All-reduces between the devices of the node."""
    overhead_s: float = 0.0
    """Launches, Python, fixed cost of the step."""

    @property
    def total_s(self) -> float:
        """Seconds of the whole step."""
        return (
            self.weights_s
            + self.compute_s
            + self.kv_s
            + self.attention_s
            + self.sync_s
            + self.overhead_s
        )

    def __add__(self, other: StageTime) -> StageTime:
        return StageTime(
            self.weights_s + other.weights_s,
            self.compute_s + other.compute_s,
            self.kv_s + other.kv_s,
            self.attention_s + other.attention_s,
            self.sync_s + other.sync_s,
            self.overhead_s + other.overhead_s,
        )

    def __mul__(self, times: int) -> StageTime:
        return StageTime(
            self.weights_s * times,
            self.compute_s * times,
            self.kv_s * times,
            self.attention_s * times,
            self.sync_s * times,
            self.overhead_s * times,
        )


@dataclass(frozen=True, slots=True)
class Chip:
    """A device under an engine: what the time of a step depends on besides the model."""

    device: Device
    calibration: Calibration
    count: int = 1
    """Devices that share every layer by tensor parallelism."""


def stage_time(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, batch: Batch
) -> StageTime:
    """Seconds that layers ``[start, stop)`` take for one step of ``batch``.

    A sum over layers, so a partition's time is the sum of its parts. Each layer is a roofline
    (Williams, Waterman, Patterson, CACM 2009): the longer of reading its weights and computing
    its products, and likewise for attention over the KV cache, plus the engine's overheads.
    The first stage adds the embedding rows, the last one the head for one token per sequence.
    """
    alone = start == 0 and stop == model.num_hidden_layers
    total = StageTime(overhead_s=fixed_s(chip.calibration, batch, alone))
    for layer, times in _runs(model, start, stop):
        total += layer_time(model, layer, quant, chip, batch) * times
    if start == 0:
        total += embedding_time(model, quant, chip, batch)
    if stop == model.num_hidden_layers:
        total += head_time(model, quant, chip, batch)
    return total


def fixed_s(calibration: Calibration, batch: Batch, alone: bool) -> float:
    """Time of a step whatever its layers (s); a stage ``alone`` in its pipeline never sleeps."""
    time_s = calibration.step_overhead_s + batch.sequences * calibration.sequence_overhead_s
    return time_s if alone else time_s + calibration.wake_s


def layer_time(
    model: ModelSpec, layer: Layer, quant: QuantScheme, chip: Chip, batch: Batch
) -> StageTime:
    """Seconds of one layer for one step of ``batch``."""
    experts = layer.distinct_experts(batch.new_tokens) * layer.expert_params
    touched_bytes = quant.layer_bytes(layer.params, experts)
    linear = _products(quant, chip, touched_bytes, layer.active_params, batch.new_tokens)
    attention = _attention(layer, quant, chip, batch)
    calibration = chip.calibration
    overhead_s = calibration.layer_overhead_s + _efficiency(quant, chip).layer_overhead_s
    overhead_s += batch.sequences * calibration.sequence_layer_overhead_s
    return linear + attention + StageTime(sync_s=_sync_s(chip), overhead_s=overhead_s)


def embedding_time(model: ModelSpec, quant: QuantScheme, chip: Chip, batch: Batch) -> StageTime:
    """Seconds to gather the embedding rows of the new tokens."""
    row_bytes = model.hidden_size * quant.embedding_bits / 8
    rate = chip.device.memory_bytes_per_s * _efficiency(quant, chip).bandwidth
    return StageTime(weights_s=batch.new_tokens * row_bytes / rate)


def head_time(model: ModelSpec, quant: QuantScheme, chip: Chip, batch: Batch) -> StageTime:
    """Seconds of the output head for the tokens that are sampled."""
    head_bytes = model.head_params * quant.head_bits / 8
    wide = quant.head_bits >= 16 > quant.weight_bits
    return _products(quant, chip, head_bytes, model.head_params, batch.sampled_tokens, wide)


def _runs(model: ModelSpec, start: int, stop: int) -> list[tuple[Layer, int]]:
    """Distinct layers of a range with how often each occurs, in order of first appearance."""
    counts: dict[int, tuple[Layer, int]] = {}
    for layer in model.layers[start:stop]:
        _, seen = counts.get(id(layer), (layer, 0))
        counts[id(layer)] = (layer, seen + 1)
    return list(counts.values())


def _efficiency(quant: QuantScheme, chip: Chip) -> Efficiency:
    return chip.calibration.for_quant(quant.id, quant.compute_dtype)


def _products(
    quant: QuantScheme,
    chip: Chip,
    weight_bytes: float,
    params: float,
    tokens: float,
    wide: bool = False,
) -> StageTime:
    """Roofline of matrix products: weights read once, 2 FLOPs per parameter and token.

    ``wide`` weights are kept in 16 bits beside narrower ones and computed in that format.
    """
    dtype = quant.wide_dtype if wide else quant.compute_dtype
    reached = chip.calibration.for_quant(dtype, dtype) if wide else _efficiency(quant, chip)
    bandwidth = chip.device.memory_bytes_per_s * chip.count * reached.bandwidth
    peak = chip.device.peak_flop_per_s(dtype) * chip.count
    read_s = weight_bytes / bandwidth
    compute_s = 2 * params * tokens / (peak * reached.compute_at(tokens))
    return StageTime(weights_s=read_s, compute_s=max(0.0, compute_s - read_s))


def _attention(layer: Layer, quant: QuantScheme, chip: Chip, batch: Batch) -> StageTime:
    """Roofline of attention: cached keys and values read once, FLOPs by attended pairs."""
    calibration = chip.calibration
    elements = layer.kv_elements * batch.read_tokens(layer.kv_window)
    elements += 2 * layer.state_elements * batch.sequences
    bandwidth = chip.device.memory_bytes_per_s * chip.count * calibration.kv_bandwidth
    read_s = elements * quant.kv_bits / 8 / bandwidth
    flops = layer.flops_per_pair * batch.attended_pairs(layer.kv_window)
    flops += 4.0 * layer.state_elements * batch.new_tokens
    peak = chip.device.peak_flop_per_s(quant.wide_dtype) * chip.count
    compute_s = flops / (peak * calibration.attention_compute)
    return StageTime(kv_s=read_s, attention_s=max(0.0, compute_s - read_s))


def _sync_s(chip: Chip) -> float:
    """Two all-reduces per layer (Megatron-LM, arXiv 1909.08053), latency-bound in decode."""
    return 2 * chip.calibration.sync_s if chip.count > 1 else 0.0
