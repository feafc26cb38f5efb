"""Pace: the constants of a calibration, moved until measured steps are right."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from planner.core.cost.batch import Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Efficiency

MOST = 4.0
"""A constant moves by this factor at most: a run that is further off has another cause."""

_LARGE_TOKENS = 32.0
"""Steps of so many tokens are prompts; smaller ones decode."""
_ROUNDS = 4
_OVERHEADS = (
    "layer_overhead_s",
    "step_overhead_s",
    "wake_s",
    "sequence_overhead_s",
    "sequence_layer_overhead_s",
)


def factors(steps: Sequence[MeasuredStep], start: Calibration) -> dict[Phase, float]:
    """How many times longer than predicted each phase takes.

    A prompt also pays the overheads that decode steps move, so the two are found in turns.
    """
    phases: list[Phase] = ["decode", "prefill"]
    found: dict[Phase, float] = {
        phase: 1.0 for phase in phases if any(step.batch.phase == phase for step in steps)
    }
    for _ in range(_ROUNDS):
        for phase in found:
            now = moved(start, found)
            late = [
                step.seconds / step.predicted_s(now) for step in steps if step.batch.phase == phase
            ]
            found[phase] = within(found[phase] * statistics.median(late))
    return found


def moved(calibration: Calibration, factors: dict[Phase, float]) -> Calibration:
    """Constants under which decode and prompts take so many times as long."""
    decode, prefill = factors.get("decode", 1.0), factors.get("prefill", 1.0)
    efficiency = {
        quant: _moved(entry, decode, prefill) for quant, entry in calibration.efficiency.items()
    }
    changes: dict[str, object] = {name: getattr(calibration, name) * decode for name in _OVERHEADS}
    changes |= {
        "efficiency": efficiency,
        "kv_bandwidth": calibration.kv_bandwidth / decode,
        "attention_compute": calibration.attention_compute / prefill,
    }
    return calibration.model_copy(update=changes)


def _moved(entry: Efficiency, decode: float, prefill: float) -> Efficiency:
    compute: object
    if isinstance(entry.compute, tuple):
        compute = tuple(
            (tokens, share / (decode if tokens < _LARGE_TOKENS else prefill))
            for tokens, share in entry.compute
        )
    else:
        compute = entry.compute / prefill
    return entry.model_copy(
        update={
            "bandwidth": entry.bandwidth / decode,
            "compute": compute,
            "layer_overhead_s": entry.layer_overhead_s * decode,
        }
    )


def within(factor: float) -> float:
    """A factor within ``MOST`` either way."""
    return min(MOST, max(1 / MOST, factor))
