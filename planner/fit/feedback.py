"""What a run took, fed back into the engine profile that predicted it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.cost.batch import Phase
from planner.core.cost.measured import MeasuredStep
from planner.core.engine import Calibration, Engine
from planner.core.pace import factors, moved, within


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
        found = factors(mine, pace[device])
        after = moved(pace[device], found)
        for phase in found:
            own = [step for step in mine if step.batch.phase == phase]
            before_error, after_error = (
                statistics.median(step.error(one) for step in own) for one in (pace[device], after)
            )
            told.append(Correction(device, phase, before_error, after_error, len(own)))
        old = engine.calibration(mine[0].device)
        new = moved(old, found).model_copy(update={"device": device})
        calibrations = [*(one for one in calibrations if one.device != device), new]
    changes = {
        "calibrations": tuple(calibrations),
        "hop_s": engine.hop_s * within(seen.hop),
        "coordinator_step_s": engine.coordinator_step_s * within(seen.coordinator),
    }
    return engine.model_copy(update=changes), tuple(told)
