"""Which constants of a calibration are free, as a vector of logarithms and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.engine import Calibration, Efficiency

SCALARS: dict[str, tuple[float, float]] = {
    "kv_bandwidth": (0.01, 1.5),
    "attention_compute": (0.001, 1.5),
    "layer_overhead_s": (1e-8, 1e-1),
    "step_overhead_s": (1e-8, 1.0),
    "sequence_overhead_s": (1e-9, 1e-1),
    "sequence_layer_overhead_s": (1e-9, 1e-2),
    "sync_s": (1e-8, 1e-1),
}
"""Constants of a whole calibration with the range a fit may search."""

SHARE_RANGE = (1e-4, 3.0)
"""Range of a share of the FLOP/s; engines with narrower accumulators than assumed pass 1."""

BANDWIDTH_RANGE = (1e-3, 1.3)
"""Range of a share of the bandwidth; a streaming read by one thread is no strict limit."""

_OVERHEAD_RANGE = SCALARS["layer_overhead_s"]


@dataclass(frozen=True, slots=True)
class Free:
    """The constants a fit may move; all others stay as they are in the starting calibration."""

    scalars: tuple[str, ...] = ()
    """Names out of ``SCALARS``."""
    bandwidth: tuple[str, ...] = ()
    """Efficiency keys whose share of the bandwidth is free."""
    compute: tuple[str, ...] = ()
    """Efficiency keys whose share of the FLOP/s is free, at every point of a curve."""
    overhead: tuple[str, ...] = ()
    """Efficiency keys whose further overhead per layer is free."""


def count(start: Calibration, free: Free) -> int:
    """How many constants are fitted."""
    return len(to_vector(start, free))


def to_vector(start: Calibration, free: Free) -> list[float]:
    """Logarithms of the free constants, in a fixed order, moved inside their ranges."""
    values = [(getattr(start, name), SCALARS[name]) for name in free.scalars]
    values += [(start.efficiency[key].bandwidth, BANDWIDTH_RANGE) for key in free.bandwidth]
    values += [(start.efficiency[key].layer_overhead_s, _OVERHEAD_RANGE) for key in free.overhead]
    for key in free.compute:
        values += [(share, SHARE_RANGE) for share in _shares(start.efficiency[key])]
    return [math.log(min(high, max(low, value))) for value, (low, high) in values]


def ranges(start: Calibration, free: Free) -> tuple[list[float], list[float]]:
    """Lower and upper bounds of the vector."""
    pairs = [SCALARS[name] for name in free.scalars]
    pairs += [BANDWIDTH_RANGE] * len(free.bandwidth) + [_OVERHEAD_RANGE] * len(free.overhead)
    pairs += [SHARE_RANGE] * (count(start, free) - len(pairs))
    return [math.log(low) for low, _ in pairs], [math.log(high) for _, high in pairs]


def from_vector(start: Calibration, free: Free, vector: Sequence[float]) -> Calibration:
    """The starting calibration with its free constants replaced."""
    numbers = iter(math.exp(value) for value in vector)
    changes: dict[str, object] = {name: next(numbers) for name in free.scalars}
    efficiency = dict(start.efficiency)
    for key in free.bandwidth:
        efficiency[key] = efficiency[key].model_copy(update={"bandwidth": next(numbers)})
    for key in free.overhead:
        efficiency[key] = efficiency[key].model_copy(update={"layer_overhead_s": next(numbers)})
    for key in free.compute:
        old = efficiency[key].compute
        if isinstance(old, tuple):
            new: object = tuple((tokens, next(numbers)) for tokens, _ in old)
        else:
            new = next(numbers)
        efficiency[key] = efficiency[key].model_copy(update={"compute": new})
    return start.model_copy(update=changes | {"efficiency": efficiency})


def _shares(efficiency: Efficiency) -> list[float]:
    if isinstance(efficiency.compute, tuple):
        return [share for _, share in efficiency.compute]
    return [efficiency.compute]
