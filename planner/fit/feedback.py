"""What a run took, fed back into the engine profile that predicted it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.cost.batch import Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Efficiency, Engine

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


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run took besides steps, over what was predicted; 1 where it was right."""

    hop: float = 1.0
    coordinator: float = 1.0


@dataclass(frozen=True, slots=True)
class Correction:
    """Signed error of the steps of a device's stages in the median, before and after."""

    device: str
    phase: Phase
    before: float
    after: float
    steps: int


def corrected(
    engine: Engine, steps: Sequence[MeasuredStep], pace: dict[str, Calibration], seen: Seen
) -> tuple[Engine, tuple[Correction, ...]]:
    """The engine with the constants of each device moved until the median step is right.

    ``steps`` are on devices as fast as they were found to be; ``pace`` has the constants that
    predicted them there, by device. Decode steps move what reading, small products and overheads
    take, prompts what large products and their attention take: as many factors as a run of one
    workload can tell.
    """
    calibrations, told = list(engine.calibrations), []
    for device in sorted({step.device.id for step in steps}):
        mine = [step for step in steps if step.device.id == device]
        factors = _factors(mine, pace[device])
        after = moved(pace[device], factors)
        for phase in factors:
            own = [step for step in mine if step.batch.phase == phase]
            before_error, after_error = (
                statistics.median(step.error(one) for step in own) for one in (pace[device], after)
            )
            told.append(Correction(device, phase, before_error, after_error, len(own)))
        old = engine.calibration(mine[0].device)
        new = moved(old, factors).model_copy(update={"device": device})
        calibrations = [*(one for one in calibrations if one.device != device), new]
    changes = {
        "calibrations": tuple(calibrations),
        "hop_s": engine.hop_s * _within(seen.hop),
        "coordinator_step_s": engine.coordinator_step_s * _within(seen.coordinator),
    }
    return engine.model_copy(update=changes), tuple(told)


def _factors(steps: Sequence[MeasuredStep], start: Calibration) -> dict[Phase, float]:
    """How many times longer than predicted each phase takes.

    A prompt also pays the overheads that decode steps move, so the two are found in turns.
    """
    phases: list[Phase] = ["decode", "prefill"]
    factors: dict[Phase, float] = {
        phase: 1.0 for phase in phases if any(step.batch.phase == phase for step in steps)
    }
    for _ in range(_ROUNDS):
        for phase in factors:
            now = moved(start, factors)
            late = [
                step.seconds / step.predicted_s(now) for step in steps if step.batch.phase == phase
            ]
            factors[phase] = _within(factors[phase] * statistics.median(late))
    return factors


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


def _within(factor: float) -> float:
    return min(MOST, max(1 / MOST, factor))
