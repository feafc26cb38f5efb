"""What ``planner probe`` measured on a host -> the engine card of our runtime there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.core.cost.compute import Chip
from planner.core.cost.loading import MeasuredLoad, warm_up_s
from planner.core.cost.measured import MeasuredStep
from planner.core.device import Device
from planner.core.engine import Calibration, Efficiency, Engine
from planner.core.metrics import percentile
from planner.core.trust import ErrorBand
from planner.fit.constants import SCALARS, Free
from planner.fit.steps import error_band, fit

KNOTS = (2.0, 4.0, 8.0, 16.0, 32.0, 128.0, 512.0)
"""Tokens of a step at which the share of the FLOP/s is fitted. Steps of one token show what reading
the weights takes: half of what two tokens compute hides behind it."""

_FEW_PARAMS = 1e6
_TOLERANCE = 1e-4
"""Where the fit ends: steps repeat within a few per cent, and the rest of the way takes nine times
as long."""

_SHARED = tuple(name for name in SCALARS if name not in ("sync_s", "sequence_overhead_s"))


@dataclass(frozen=True, slots=True)
class Overheads:
    """Fixed times of our runtime on a host (s)."""

    hop_s: float
    coordinator_step_s: float
    worker_steps: Sequence[MeasuredStep] = ()
    """Steps of real workers, of one alone and of a pipeline: each unpacks a frame first."""
    takeover_s: float = 0.0
    loads: Sequence[MeasuredLoad] = ()
    """Of fresh workers, for stages of unlike size."""


def host_engine(device: Device, steps: Sequence[MeasuredStep], overheads: Overheads) -> Engine:
    """The engine card for ``device`` from steps measured on it, with its error band.

    The band comes from predicting the steps of each model shape with constants fitted to the
    other shapes only.
    """
    calibration = host_calibration(device, steps)
    for name, alone in (("step_overhead_s", True), ("wake_s", False)):
        mine = [step for step in overheads.worker_steps if step.is_whole == alone]
        calibration = _later(calibration, name, mine)
    load_s, load_bytes_per_s = _loading(Chip(device, calibration), overheads.loads)
    return Engine(
        id=device.id,
        name="planner runtime",
        version=f"probed with {device.threads} threads",
        calibrations=(calibration.model_copy(update={"error_band": _left_out(device, steps)}),),
        hop_s=overheads.hop_s,
        coordinator_step_s=overheads.coordinator_step_s,
        takeover_s=overheads.takeover_s,
        load_s=load_s,
        load_bytes_per_s=load_bytes_per_s,
        warms_up=True,
        frame_bytes=64,
        memory_reserve_bytes=400 * 2**20,
        source="planner probe",
        as_of=device.as_of,
        note=f"{len(steps)} timed steps; the reserve is what torch and Python take per worker",
    )


def _loading(chip: Chip, loads: Sequence[MeasuredLoad]) -> tuple[float, float | None]:
    """Seconds of a stage without weights, and the rate of those: a line through two sizes.

    Of what loading took beyond the steps that warm up, the median for each size.
    """
    left_s: dict[float, list[float]] = {}
    for one in loads:
        steps_s = warm_up_s(one.model, one.stage, one.quant, chip, one.seats)
        left_s.setdefault(one.weights_bytes, []).append(max(0.0, one.seconds - steps_s))
    middle_s = {size: percentile(sorted(times), 50) for size, times in left_s.items()}
    if len(middle_s) < 2:
        return max(middle_s.values(), default=0.0), None
    small, large = min(middle_s), max(middle_s)
    per_byte_s = max(0.0, (middle_s[large] - middle_s[small]) / (large - small))
    load_s = max(0.0, middle_s[small] - per_byte_s * small)
    return float(f"{load_s:.4g}"), float(f"{1 / per_byte_s:.4g}") if per_byte_s else None


def _later(calibration: Calibration, name: str, steps: Sequence[MeasuredStep]) -> Calibration:
    """A constant raised by what steps of real workers take more than predicted, in the median."""
    if not steps:
        return calibration
    late_s = percentile(sorted(step.seconds - step.predicted_s(calibration) for step in steps), 50)
    raised_s = max(0.0, getattr(calibration, name) + late_s)
    return calibration.model_copy(update={name: float(f"{raised_s:.4g}")})


def host_calibration(device: Device, steps: Sequence[MeasuredStep]) -> Calibration:
    """Constants fitted to measured steps; the scheme with most steps fixes what all share."""
    quants = sorted({step.quant.id for step in steps}, key=_rank)
    efficiency = {
        quant: Efficiency(bandwidth=0.8, compute=tuple((knot, 0.3) for knot in KNOTS))
        for quant in quants
    }
    calibration = Calibration(
        device=device.id,
        efficiency=efficiency,
        kv_bandwidth=0.3,
        attention_compute=0.2,
        layer_overhead_s=1e-4,
        step_overhead_s=1e-4,
        sequence_layer_overhead_s=2e-5,
        tier=2,
        source="planner probe",
    )
    for index, quant in enumerate(quants):
        shared = Free(scalars=_SHARED) if index == 0 else Free(overhead=(quant,))
        free = Free(shared.scalars, bandwidth=(quant,), compute=(quant,), overhead=shared.overhead)
        mine = [step for step in steps if step.quant.id == quant]
        calibration = fit(mine, calibration, free, _TOLERANCE).calibration
    return _rounded(calibration)


def _rank(quant: str) -> tuple[bool, str]:
    """bf16 first: it is what most plans use."""
    return quant != "bf16", quant


def _left_out(device: Device, steps: Sequence[MeasuredStep]) -> ErrorBand:
    errors: list[float] = []
    heavy = {step.model.id for step in steps if _weighty(step)}
    for shape in sorted(heavy or {step.model.id for step in steps}):
        others = [step for step in steps if step.model.id != shape]
        if not others:
            others = list(steps)
        calibration = host_calibration(device, others)
        errors += [step.error(calibration) for step in steps if step.model.id == shape]
    return error_band(errors, "step times of each probed shape, predicted from the other shapes")


def _weighty(step: MeasuredStep) -> bool:
    """Whether a model has weights to speak of; one without shows overheads and is in every fit."""
    return sum(layer.params for layer in step.model.layers) >= _FEW_PARAMS


def _rounded(calibration: Calibration) -> Calibration:
    """The constants with the four digits that a measurement is worth."""

    def four(value: float) -> float:
        return float(f"{value:.4g}")

    efficiency = {
        quant: Efficiency(
            bandwidth=four(entry.bandwidth),
            compute=tuple((knot, four(share)) for knot, share in entry.compute)
            if isinstance(entry.compute, tuple)
            else four(entry.compute),
            layer_overhead_s=four(entry.layer_overhead_s),
        )
        for quant, entry in calibration.efficiency.items()
    }
    scalars = {name: four(getattr(calibration, name)) for name in _SHARED}
    return calibration.model_copy(update=scalars | {"efficiency": efficiency})
