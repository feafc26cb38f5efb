"""Time of a stage for a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.memory import kv_copies
from planner.core.cost.stagetime import StageTime
from planner.core.cost.turns import share_in_turns
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine, Split
from planner.core.model import Layer, ModelSpec
from planner.core.quant import WIDE_BITS, QuantScheme

_INTEGERS_PER_JOULE = 7.0
"""8-bit products that the energy of one in 16 bits pays for: 0.2 + 0.1 pJ for an integer product
and its sum, 1.1 + 0.9 pJ in floating point (Horowitz, ISSCC 2014)."""
_NARROW_FLOATS = ("fp8", "fp4")
_WIDENING_KERNELS = 7
"""One for each matrix of a layer: query, key, value, output, gate, up, down."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A device under an engine: what the time of a step depends on besides the model."""

    device: Device
    calibration: Calibration
    count: int = 1
    """Devices of the node that work on the stage together."""
    split: Split = "tensor"
    """Whether they share every layer, or each holds layers of its own."""
    prefill_chunk: int | None = None
    """Tokens of a prompt that are computed at a time; None for all."""
    widens_above: int | None = None
    """Tokens of a step above which narrow weights are widened in memory first; None for never."""
    chunks_at_once: int | None = None
    """Chunks of a prompt that devices with layers of their own compute at a time; None for all."""
    launches: int | None = None
    """Kernels of a layer of a chunk, where one process launches for all devices."""

    @classmethod
    def of(cls, engine: Engine, device: Device, count: int = 1, split: Split | None = None) -> Chip:
        """Devices as an engine uses them; raises ValueError where it has no calibration.

        They share a stage as the engine does by itself where no ``split`` is given.
        """
        shared = split or engine.split
        calibration = engine.calibration(device)
        return cls(
            device,
            calibration,
            count,
            shared,
            engine.prefill_chunk,
            engine.widens_above,
            engine.chunks_at_once,
            engine.launches,
        )

    @property
    def sharing(self) -> int:
        """Devices that work on one layer at the same time."""
        return self.count if self.split == "tensor" else 1

    @property
    def handover_s(self) -> float:
        """Time of passing a step on between devices with layers of their own."""
        return (self.count - self.sharing) * self.calibration.sync_s


def stage_time(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, batch: Batch
) -> StageTime:
    """Seconds that layers ``[start, stop)`` take for one step of ``batch``.

    A sum over layers, so a partition's time is the sum of its parts. Each layer is a roofline
    (Williams, Waterman, Patterson, CACM 2009): the longer of reading its weights and computing
    its products, and likewise for attention over the KV cache, plus the engine's overheads.
    The first stage adds the embedding rows, the last one the head for one token per sequence.

    A prompt longer than the engine's chunk is computed chunk by chunk. Devices that hold layers
    of their own pass chunks on as a pipeline does.
    """
    total = StageTime()
    besides: dict[float, StageTime] = {}  # chunks of one size differ in attention only
    for chunk in batch.chunks(chip.prefill_chunk):
        beside = besides.get(chunk.new_tokens)
        if beside is None:
            beside = besides[chunk.new_tokens] = _beside(model, start, stop, quant, chip, chunk)
        total += beside + _attention(model, start, stop, quant, chip, chunk)
    if chip.count > chip.sharing:
        total *= overlapped(quant, chip, batch, stop - start)
        total += StageTime(sync_s=chip.handover_s)
    return total


def chunked_s(chip: Chip, batch: Batch, time_s: Callable[[Batch], float]) -> float:
    """Seconds that a part of a stage's work takes, given what it takes for each chunk.

    The parts of a stage, times ``overlapped``, and ``Chip.handover_s`` sum up to its time.
    """
    return sum(map(time_s, batch.chunks(chip.prefill_chunk)))


def overlapped(quant: QuantScheme, chip: Chip, batch: Batch, layers: int) -> float:
    """Share of the work in a row that a batch takes on devices with layers of their own."""
    if chip.count == chip.sharing:
        return 1.0
    chunks = batch.chunks(chip.prefill_chunk)
    widening = _WIDENING_KERNELS if _widens(quant, chip, chunks[0].new_tokens) else 0
    kernels = (chip.launches + widening) * layers / chip.count if chip.launches else 0.0
    return share_in_turns(chip.count, len(chunks), chip.chunks_at_once, kernels)


def step_time(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, *batches: Batch
) -> StageTime:
    """Seconds of layers ``[start, stop)`` for batches that are computed together, in one step.

    Engines with chunked prefill put a piece of a prompt beside the decoding sequences: weights
    are read once and products computed for all tokens, attention goes batch by batch.
    """
    beside = _beside(model, start, stop, quant, chip, *batches)
    return beside + _attention(model, start, stop, quant, chip, *batches)


def _beside(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, *batches: Batch
) -> StageTime:
    """Seconds of a step but for attention, whatever is in the cache."""
    alone = start == 0 and stop == model.num_hidden_layers
    tokens = sum(batch.new_tokens for batch in batches)
    sequences = sum(batch.sequences for batch in batches)
    total = StageTime(overhead_s=fixed_s(chip.calibration, *batches, alone=alone))
    for layer, times in model.runs(start, stop):
        total += beside_attention(model, layer, quant, chip, tokens, sequences) * times
    if start == 0:
        total += embedding_time(model, quant, chip, tokens)
    if stop == model.num_hidden_layers:
        total += head_time(model, quant, chip, *batches)
    return total


def _attention(
    model: ModelSpec, start: int, stop: int, quant: QuantScheme, chip: Chip, *batches: Batch
) -> StageTime:
    """Seconds of attention in a step."""
    mixed, total = len(batches) > 1, StageTime()
    for layer, times in model.runs(start, stop):
        for batch in batches:
            total += attention_time(layer, quant, chip, batch, mixed) * times
    return total


def fixed_s(calibration: Calibration, *batches: Batch, alone: bool) -> float:
    """Time of a step whatever its layers (s); a stage ``alone`` in its pipeline never sleeps."""
    sequences = sum(batch.sequences for batch in batches)
    time_s = calibration.step_overhead_s + sequences * calibration.sequence_overhead_s
    return time_s if alone else time_s + calibration.wake_s


def layer_time(
    model: ModelSpec, layer: Layer, quant: QuantScheme, chip: Chip, *batches: Batch
) -> StageTime:
    """Seconds of one layer for one step of ``batches``."""
    tokens = sum(batch.new_tokens for batch in batches)
    sequences = sum(batch.sequences for batch in batches)
    total = beside_attention(model, layer, quant, chip, tokens, sequences)
    for batch in batches:
        total += attention_time(layer, quant, chip, batch, len(batches) > 1)
    return total


def beside_attention(
    model: ModelSpec,
    layer: Layer,
    quant: QuantScheme,
    chip: Chip,
    tokens: float,
    sequences: float,
) -> StageTime:
    """Seconds of what a layer does but for attention: products, all-reduces and overheads."""
    calibration = chip.calibration
    overhead_s = calibration.layer_overhead_s + _efficiency(quant, chip).layer_overhead_s
    if layer.experts:
        overhead_s += calibration.expert_overhead_s
    overhead_s += sequences * calibration.sequence_layer_overhead_s
    rest = StageTime(sync_s=_sync_s(model, chip, tokens), overhead_s=overhead_s)
    return _linear(layer, quant, chip, tokens) + rest


def embedding_time(model: ModelSpec, quant: QuantScheme, chip: Chip, tokens: float) -> StageTime:
    """Seconds to gather the embedding rows of so many new tokens."""
    row_bytes = model.hidden_size * quant.embedding_bits / 8
    rate = chip.device.memory_bytes_per_s * _efficiency(quant, chip).bandwidth
    return StageTime(weights_s=tokens * row_bytes / rate)


def head_time(model: ModelSpec, quant: QuantScheme, chip: Chip, *batches: Batch) -> StageTime:
    """Seconds of the output head for the tokens that are sampled."""
    head_bytes = model.head_params * quant.head_bits / 8
    wide = quant.head_bits >= 16 > quant.weight_bits
    sampled = sum(batch.sampled_tokens for batch in batches)
    if not sampled:
        return StageTime()
    width = model.hidden_size
    return _products(quant, chip, head_bytes, model.head_params * sampled, sampled, width, wide)


def _efficiency(quant: QuantScheme, chip: Chip) -> Efficiency:
    """What kernels reach: on a chip that widens narrow floats, that of the wide format."""
    dtype, wide = quant.compute_dtype, quant.wide_dtype
    if dtype in _NARROW_FLOATS and dtype not in chip.device.flop_per_s:
        return chip.calibration.for_quant(wide, wide)
    return chip.calibration.for_quant(quant.id, dtype)


def _linear(layer: Layer, quant: QuantScheme, chip: Chip, tokens: float) -> StageTime:
    """Products of a layer: those of every token, and the grouped ones of its routed experts.

    The rows of a group are padded to whole tiles: half a tile for each expert that is touched.
    """
    touched = layer.distinct_experts(tokens)
    if not touched:
        dense_bytes = quant.layer_bytes(layer.params, 0.0)
        return _products(quant, chip, dense_bytes, layer.params * tokens, tokens, layer.width)
    expert_bytes = quant.layer_bytes(0, touched * layer.expert_params)
    beside_bytes = quant.layer_bytes(layer.params, touched * layer.expert_params) - expert_bytes
    width = layer.width
    beside = _products(quant, chip, beside_bytes, layer.params * tokens, tokens, width)
    padding = touched * chip.calibration.expert_tile / 2
    rows = (layer.experts_per_token * tokens + padding) / _efficiency(quant, chip).experts
    products = layer.expert_params * rows / _experts_speedup(quant, chip)
    return beside + _products(quant, chip, expert_bytes, products, tokens, width)


def _experts_speedup(quant: QuantScheme, chip: Chip) -> float:
    """How much faster experts are in a format of their own, where tensor cores scale blocks."""
    known = chip.device.flop_per_s
    if quant.experts_dtype is None or not {"fp4", quant.experts_dtype} <= known.keys():
        return 1.0
    return known[quant.experts_dtype] / chip.device.peak_flop_per_s(quant.compute_dtype)


def _products(
    quant: QuantScheme,
    chip: Chip,
    weight_bytes: float,
    products: float,
    tokens: float,
    width: int,
    wide: bool = False,
) -> StageTime:
    """Roofline of matrix products: weights read once, 2 FLOPs per product.

    ``wide`` weights are kept in 16 bits beside narrower ones and computed in that format. Where
    an engine widens narrow ones for a step, they are read, written in 16 bits and read again.
    """
    if not wide and _widens(quant, chip, tokens):
        widened_bytes = weight_bytes * WIDE_BITS / quant.weight_bits
        widened = _products(quant, chip, widened_bytes, products, tokens, width, wide=True)
        rate = chip.device.memory_bytes_per_s * chip.sharing * _efficiency(quant, chip).bandwidth
        return widened + StageTime(weights_s=(weight_bytes + widened_bytes) / rate)
    dtype = quant.wide_dtype if wide else quant.compute_dtype
    reached = chip.calibration.for_quant(dtype, dtype) if wide else _efficiency(quant, chip)
    bandwidth = chip.device.memory_bytes_per_s * chip.sharing * reached.bandwidth
    peak = chip.device.peak_flop_per_s(dtype) * chip.sharing
    read_s = weight_bytes / bandwidth
    if not wide and quant.is_packed:
        params = 8 * weight_bytes / quant.weight_bits
        vector = chip.device.peak_flop_per_s("fp32") * chip.sharing
        read_s += params * chip.calibration.unpack_flops / vector
    fill = 1 + chip.calibration.fill_width / width if width else 1.0
    least_s = 2 * products / peak
    compute_s = least_s * fill / reached.compute_at(tokens)
    flop_per_joule = reached.flop_per_joule
    if quant.scale_block and not wide and quant.compute_dtype in chip.device.flop_per_s:
        vector = chip.device.peak_flop_per_s("fp32") * chip.sharing
        compute_s += products / quant.scale_block * chip.calibration.scale_flops / vector
        plain = chip.calibration.for_quant(quant.wide_dtype, quant.wide_dtype).flop_per_joule
        flop_per_joule = plain and plain * _INTEGERS_PER_JOULE
    if flop_per_joule and chip.device.tdp_w:
        compute_s += 2 * products / (chip.device.tdp_w * chip.sharing * flop_per_joule)
    return StageTime(weights_s=read_s, compute_s=beyond_s(read_s, max(least_s, compute_s)))


def _widens(quant: QuantScheme, chip: Chip, tokens: float) -> bool:
    """Whether a step multiplies a 16-bit copy of its weights, which a kernel writes first.

    A chip without arithmetic for the narrow format has nothing but kernels that widen inside.
    """
    narrow = quant.compute_dtype != quant.wide_dtype
    known = quant.compute_dtype in chip.device.flop_per_s
    return narrow and known and chip.widens_above is not None and tokens > chip.widens_above


def beyond_s(read_s: float, compute_s: float) -> float:
    """What arithmetic takes beyond the read it overlaps with: a sharp roofline.

    ``benchmarks/roofline.py`` compares it with smooth ones on published measurements.
    """
    return max(0.0, compute_s - read_s)


def attention_time(
    layer: Layer, quant: QuantScheme, chip: Chip, batch: Batch, mixed: bool
) -> StageTime:
    """Roofline of attention: cached keys and values read once, FLOPs by attended pairs.

    Without fused kernels the scores of a prompt pass through memory besides.
    """
    calibration = chip.calibration
    share = calibration.kv_bandwidth
    if mixed and batch.phase == "decode":
        share = calibration.mixed_kv_bandwidth or share
    copies = kv_copies(layer, chip.sharing)
    elements = copies * layer.kv_elements * batch.read_tokens(layer.kv_window)
    elements += 2 * layer.state_elements * batch.sequences
    bandwidth = chip.device.memory_bytes_per_s * chip.sharing * share
    read_s = elements * quant.kv_bits / 8 / bandwidth
    per_pair = layer.flops_per_pair
    if batch.phase == "decode" and layer.decode_flops_per_pair is not None:
        per_pair = layer.decode_flops_per_pair
    flops = per_pair * batch.attended_pairs(layer.kv_window)
    flops += 4.0 * layer.state_elements * batch.new_tokens
    peak = chip.device.peak_flop_per_s(quant.wide_dtype) * chip.sharing
    compute_s = flops / (peak * calibration.attention_compute)
    if batch.phase == "prefill":
        scores_bytes = layer.heads * batch.attended_pairs(layer.kv_window) * calibration.score_bytes
        compute_s += scores_bytes / (chip.device.memory_bytes_per_s * chip.sharing)
    return StageTime(kv_s=read_s, attention_s=beyond_s(read_s, compute_s))


def _sync_s(model: ModelSpec, chip: Chip, tokens: float) -> float:
    """Two all-reduces per layer (Megatron-LM, arXiv 1909.08053), latency-bound in decode.

    A ring passes on 2 (n - 1) / n of the activations, which are kept in 16 bits; where nothing is
    known of the interconnect, only the latency counts.
    """
    if chip.sharing == 1:
        return 0.0
    calibration = chip.calibration
    passed_bytes = 2 * (chip.count - 1) / chip.count * tokens * model.hidden_size * 2
    rate = calibration.sync_bandwidth * (chip.device.interconnect_bytes_per_s or math.inf)
    return 2 * (calibration.sync_s + passed_bytes / rate)
