"""Kernel times of one model on one device -> the calibration of an engine on that device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, head_time, layer_time
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.model import Layer, ModelSpec
from planner.core.quant import QuantScheme
from planner.fit.constants import Free
from planner.fit.steps import error_band, fit

_Timed = tuple[tuple[Batch, ...], float]
"""What a step computes together, and seconds."""

_ATTENTION = Free(
    scalars=(
        "kv_bandwidth",
        "attention_compute",
        "layer_overhead_s",
        "sequence_layer_overhead_s",
    )
)


_HALF = ("bf16", "fp16")
_FEWEST_SIZES = 2
"""The smallest step shows what reading reaches, the larger ones what arithmetic does."""


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """What a profiler of a serving engine saw (s): a layer by its parts, and the ends of a step."""

    device: Device
    model: ModelSpec
    quant: QuantScheme
    products: Mapping[float, float]
    """Matrix products of a layer, by tokens of the step."""
    between: Mapping[float, float]
    """Norms, activations and rotations of a layer, by tokens of the step."""
    attention: Sequence[_Timed]
    """Attention of a layer, by what the step computes."""
    ends: Mapping[float, float]
    """Head and sampling, once a step, by its sequences."""

    @property
    def points(self) -> int:
        """How many times there are."""
        return len(self.products) + len(self.attention) + len(self.ends)


@dataclass(frozen=True, slots=True)
class KernelFit:
    """An engine with a calibration for the device, and how well it says whole layers."""

    engine: Engine
    fitted: tuple[float, ...]
    """Signed relative error of each layer that constants were fitted to."""
    left_out: tuple[float, ...]
    """The same for layers of as many new tokens as no layer of the fit has."""
    mixed: tuple[float, ...]
    """The same for layers of a prompt's piece beside decoding sequences, one constant fitted."""


def calibrate_kernels(engine: Engine, times: KernelTimes, source: str) -> KernelFit:
    """The engine with constants for the device of ``times``, instead of any it had for it.

    Raises ValueError with fewer kernel times than constants.
    """
    if len(times.products) < _FEWEST_SIZES:
        raise ValueError("products of a layer are needed for two sizes of a step at least")
    layers = _layers(times)
    pure = [one for one in layers if len(one[0]) == 1]
    found = _beside_prompts(times, _calibration(times, pure), layers)
    others: list[float] = []
    for size in sorted({_tokens(batches) for batches, _ in pure}):
        rest = [one for one in pure if _tokens(one[0]) != size]
        kept = replace(times, products=_without(times.products, size))
        if len(rest) < len(_ATTENTION.scalars) or len(kept.products) < _FEWEST_SIZES:
            continue
        without = _calibration(kept, rest)
        others += [_error(times, without, *one) for one in pure if _tokens(one[0]) == size]
    said = f"{len(others)} layers of batch sizes that were left out"
    band = error_band(others, said).rounded() if others else None
    said_of = {"error_band": band, "source": source, "measured_of": (times.model.id,)}
    mine = found.model_copy(update=said_of)
    return KernelFit(
        engine.model_copy(update={"calibrations": _with(engine, times.device, mine)}),
        tuple(_error(times, found, *one) for one in pure),
        tuple(others),
        tuple(_error(times, found, *one) for one in layers if len(one[0]) > 1),
    )


def _with(engine: Engine, device: Device, mine: Calibration) -> tuple[Calibration, ...]:
    """The engine's calibrations with that of a device, which also stands for its kin.

    Devices of its class and generation without measurements of their own are taken to be alike.
    """
    alike = mine.model_copy(
        update={
            "device": "",
            "device_class": device.device_class,
            "architecture": device.architecture,
            "tier": 0,
            "error_band": None,
            "measured_in": (),
            "measured_of": (),
            "source": f"as {device.id}: {mine.source}",
        }
    )
    kept = [
        entry
        for entry in engine.calibrations
        if entry.device != device.id and (entry.tier or _place(entry) != _place(alike))
    ]
    known = {_place(entry) for entry in kept}
    return (*kept, *((alike,) if _place(alike) not in known else ()), mine)


def _alike(quant_id: str) -> tuple[str, ...]:
    """Schemes whose products are as fast: the two of 16 bits."""
    return _HALF if quant_id in _HALF else (quant_id,)


def _place(entry: Calibration) -> tuple[str, str, str]:
    return entry.device, entry.device_class, entry.architecture


def _calibration(times: KernelTimes, layers: Sequence[_Timed]) -> Calibration:
    """Products read off their own times, attention and overheads fitted to whole layers."""
    start = Calibration(
        device=times.device.id,
        efficiency={"*": _efficiency(times)},
        layer_overhead_s=min(times.between.values()),
        sequence_layer_overhead_s=1e-7,
        kv_bandwidth=0.8,
        attention_compute=0.5,
        tier=2,
        measured_in=_alike(times.quant.id),
        source="kernel times",
    )
    index = _index(times)
    steps = [
        MeasuredStep(times.device, times.model, index, index + 1, times.quant, batches[0], seconds)
        for batches, seconds in layers
    ]
    found = fit(steps, start, _ATTENTION).calibration
    chip = Chip(times.device, found)

    def late_s(sequences: float) -> float:
        batch = Batch.decode(sequences, 0)
        return times.ends[sequences] - head_time(times.model, times.quant, chip, batch).total_s

    few, many = min(times.ends), max(times.ends)
    each_s = max(0.0, (late_s(many) - late_s(few)) / (many - few)) if many > few else 0.0
    fixed = {
        "step_overhead_s": max(0.0, late_s(few) - few * each_s),
        "sequence_overhead_s": each_s,
    }
    names = (*_ATTENTION.scalars, *fixed)
    found = found.model_copy(update=fixed)
    return found.model_copy(update={name: _digits(getattr(found, name)) for name in names})


def _beside_prompts(
    times: KernelTimes, found: Calibration, layers: Sequence[_Timed]
) -> Calibration:
    """The calibration with what reading the cache reaches beside pieces of prompts."""
    from scipy.optimize import minimize_scalar

    mixed = [one for one in layers if len(one[0]) > 1]
    if not mixed:
        return found

    def at(share: float) -> Calibration:
        return found.model_copy(update={"mixed_kv_bandwidth": _digits(share)})

    def off(share: float) -> float:
        return sum(abs(_error(times, at(share), *one)) for one in mixed)

    low, high = found.kv_bandwidth / 10, found.kv_bandwidth
    return at(float(minimize_scalar(off, bounds=(low, high), method="bounded").x))


def _efficiency(times: KernelTimes) -> Efficiency:
    """Shares of the peaks that the products of a layer reach, what goes with tokens included."""
    layer, device = _typical(times), times.device
    fewest = min(times.products)
    read_bytes = times.quant.layer_bytes(layer.params)
    bandwidth = read_bytes / (device.memory_bytes_per_s * times.products[fewest])
    idle_s = min(times.between.values())
    peak = device.peak_flop_per_s(times.quant.compute_dtype)
    curve = tuple(
        (tokens, _digits(2 * layer.params * tokens / peak / (beside_s - idle_s)))
        for tokens, beside_s in sorted(_beside(times).items())
        if tokens > fewest
    )
    return Efficiency(bandwidth=_digits(bandwidth), compute=curve)


def _beside(times: KernelTimes) -> dict[float, float]:
    """All of a layer but attention, by tokens of the step."""
    between = _line(times.between)
    return {tokens: seconds + between(tokens) for tokens, seconds in times.products.items()}


def _layers(times: KernelTimes) -> list[_Timed]:
    """Whole layers: the time of attention, and what the rest takes for as many tokens."""
    beside = _line(_beside(times))
    return [(batches, seconds + beside(_tokens(batches))) for batches, seconds in times.attention]


def _line(points: Mapping[float, float]) -> Callable[[float], float]:
    """Linear between points, proportional beyond the last one."""
    known = sorted(points.items())

    def value(tokens: float) -> float:
        for (x0, y0), (x1, y1) in pairwise(known):
            if tokens <= x1:
                return y0 + max(0.0, tokens - x0) / (x1 - x0) * (y1 - y0)
        last, seconds = known[-1]
        return seconds * max(1.0, tokens / last)

    return value


def _error(
    times: KernelTimes, calibration: Calibration, batches: Sequence[Batch], seconds: float
) -> float:
    chip = Chip(times.device, calibration)
    layer = _typical(times)
    return layer_time(times.model, layer, times.quant, chip, *batches).total_s / seconds - 1


def _typical(times: KernelTimes) -> Layer:
    return times.model.layers[_index(times)]


def _index(times: KernelTimes) -> int:
    """A layer that is not at an end of the model."""
    return times.model.num_hidden_layers // 2


def _tokens(batches: Sequence[Batch]) -> float:
    return sum(batch.new_tokens for batch in batches)


def _without(points: Mapping[float, float], tokens: float) -> dict[float, float]:
    return {key: value for key, value in points.items() if key != tokens}


def _digits(value: float) -> float:
    return float(f"{value:.4g}") if math.isfinite(value) else value
