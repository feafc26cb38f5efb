"""Measured speeds -> engine cards, with what they are worth on devices that were not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from planner.core.device import Device
from planner.core.engine import Calibration, Engine
from planner.core.trust import Measured, New
from planner.fit.bands import Judged, bands
from planner.fit.knobs import Place, calibration, habits, scheme_key
from planner.fit.speeds import (
    FittedSpeeds,
    Row,
    fit_speeds,
    left_out,
    of_class,
    of_device,
    of_model,
)

_DIGITS = 3
"""What a published measurement is worth."""
_LEFT_OUT = (of_device, of_model, of_class)
_NEW: tuple[New, ...] = ("device", "model", "both")
_SCHEMES = ("*", "int8", "fp8", "fp4", "mxfp4")


@dataclass(frozen=True, slots=True)
class CalibratedEngines:
    """Engine cards from one fit, and every row it saw."""

    engines: tuple[Engine, ...]
    rows: tuple[Judged, ...]
    constants: int
    """Knobs that were fitted, over all engines."""


def calibrate(
    rows: Sequence[Row],
    devices: Sequence[Device],
    source: str,
    *,
    fresh: bool = False,
    judge: bool = True,
) -> CalibratedEngines:
    """The engines of ``rows`` under the constants that say the rows best.

    ``devices`` are all that a card should cover. Constants shift from those the engines have now;
    ``fresh`` starts from what is usual and replaces all calibrations but those of single devices.
    Without ``judge`` no device, model or class is left out in turn, and the errors of the fit stand
    for the others. Raises ValueError where there are no rows.
    """
    if not rows:
        raise ValueError("there are no measurements to fit to")
    fitted = fit_speeds(rows, fresh=fresh)
    errors = [fitted.errors] * (1 + len(_LEFT_OUT))
    if judge:
        errors[1:] = [tuple(left_out(rows, fitted, fresh, of)) for of in _LEFT_OUT]
    judged = tuple(
        Judged(engine.id, row, *said) for (engine, row), *said in zip(rows, *errors, strict=True)
    )
    engines = {engine.id: engine for engine, _ in rows}
    cards = tuple(
        _card(engine, fitted, judged, devices, source, fresh) for engine in engines.values()
    )
    return CalibratedEngines(cards, judged, len(fitted.turned))


def _card(
    engine: Engine,
    fitted: FittedSpeeds,
    judged: Sequence[Judged],
    devices: Sequence[Device],
    source: str,
    fresh: bool,
) -> Engine:
    """The engine with a calibration for every place that its rows or its card know."""
    mine = [one for one in judged if one.engine == engine.id]
    found = _places(engine, mine, {one.row.device.architecture for one in judged}, devices, fresh)
    measured = {one.row.device.device_class for one in judged}
    schemes = _schemes(engine, mine, fresh)
    calibrations = []
    for device, whole_class in found:
        place = Place.of(engine, device)
        if whole_class:
            place = Place.whole_class(engine, device.device_class)
        begin = None if fresh else engine.calibration(device)
        fresh_one = calibration(fitted.turned, place, schemes, begin)
        here = [one for one in mine if one.row.device.device_class == device.device_class]
        calibrations.append(
            _rounded(fresh_one).model_copy(
                update={
                    "device": "",
                    "device_class": device.device_class,
                    "architecture": "" if whole_class else device.architecture,
                    "tier": 1 if here else 0,
                    "error_band": None,
                    "error_bands": {
                        new: bands(judged, engine.id, device.device_class, new) for new in _NEW
                    }
                    if device.device_class in measured
                    else {},
                    "source": source if here else f"as other devices under {engine.name}: {source}",
                }
            )
        )
    kept = [
        old
        for old in engine.calibrations
        if (old.device or not fresh) and not _replaced(old, calibrations)
    ]
    changes = {name: _digits(value) for name, value in habits(fitted.turned, engine, fresh).items()}
    everything = {
        "calibrations": (*calibrations, *kept),
        "measured": _measured(engine, judged, fresh),
    }
    return engine.model_copy(update=changes | everything)


def _measured(engine: Engine, judged: Sequence[Judged], fresh: bool) -> Measured:
    """What the constants are fitted to: the rows, and what those they shift were fitted to."""
    mine = [one.row for one in judged if one.engine == engine.id]
    devices, models = {row.device.id for row in mine}, {row.model.id for row in mine}
    if engine.measured and not fresh:
        devices |= set(engine.measured.devices)
        models |= set(engine.measured.models)
    return Measured(
        devices=tuple(sorted(devices)),
        models=tuple(sorted(models)),
        elsewhere=bands(judged, engine.id, "", "class"),
    )


def _places(
    engine: Engine,
    mine: Sequence[Judged],
    known: Set[str],
    devices: Sequence[Device],
    fresh: bool,
) -> list[tuple[Device, bool]]:
    """A device of each class and of each generation in it, and whether it stands for its class.

    A fresh card covers every class that the present one covers, and every generation that is
    ``known`` from any engine of the fit; otherwise only measured places.
    """
    classes = {one.row.device.device_class for one in mine}
    chips = known if fresh else {one.row.device.architecture for one in mine}
    if fresh:
        classes |= {entry.device_class for entry in engine.calibrations if entry.device_class}
    found: list[tuple[Device, bool]] = []
    for name in sorted(classes):
        members = sorted(
            (device for device in devices if device.device_class == name),
            key=lambda device: (device.architecture, device.id),
        )
        if not members:
            continue
        if fresh or not any(device.architecture in chips for device in members):
            found.append((members[0], True))
        seen: dict[str, Device] = {}
        for device in members:
            if device.architecture and device.architecture in chips:
                seen.setdefault(device.architecture, device)
        found += [(device, False) for device in seen.values()]
    return found


def _schemes(engine: Engine, mine: Sequence[Judged], fresh: bool) -> list[str]:
    """Keys of efficiency: those that were measured, and all that the card has a use for."""
    used = {"*", *(scheme_key(one.row.quant) for one in mine)}
    if not fresh:
        used |= {key for entry in engine.calibrations for key in entry.efficiency}
        used &= {key for key in used if all(_knows(entry, key) for entry in engine.calibrations)}
    else:
        present = {key for entry in engine.calibrations for key in entry.efficiency}
        used |= {key for key in _SCHEMES if key in present}
    return sorted(used)


def _knows(entry: Calibration, key: str) -> bool:
    return key in entry.efficiency or "*" in entry.efficiency


def _replaced(old: Calibration, calibrations: Iterable[Calibration]) -> bool:
    return any(
        (old.device, old.device_class, old.architecture)
        == (new.device, new.device_class, new.architecture)
        for new in calibrations
    )


def _rounded(entry: Calibration) -> Calibration:
    efficiency = {
        key: one.model_copy(
            update={
                "bandwidth": _digits(one.bandwidth),
                "compute": _digits(one.compute)
                if isinstance(one.compute, float | int)
                else tuple((tokens, _digits(share)) for tokens, share in one.compute),
                "experts": _digits(one.experts),
                "flop_per_joule": one.flop_per_joule and _digits(one.flop_per_joule),
            }
        )
        for key, one in entry.efficiency.items()
    }
    single = {
        name: _digits(value)
        for name, value in entry
        if isinstance(value, float) and name not in ("wake_s",)
    }
    return entry.model_copy(update=single | {"efficiency": efficiency})


def _digits(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
