"""``planner calibrate``: published or own measurements -> the constants of engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console
from planner.cli.console import Format, FormatOption, ProfilesOption

if TYPE_CHECKING:
    from planner.core.device import Device
    from planner.core.engine import Engine
    from planner.files.catalogue import Catalogue
    from planner.files.measurements import Measurements
    from planner.report.calibrate import CalibrationReport, KernelReport


def calibrate(
    data: Annotated[Path, typer.Argument(help="CSV file of measured speeds.", metavar="DATA.csv")],
    engine: Annotated[
        list[str],
        typer.Option("--engine", help="Engine profile to fit; several share what is hardware's."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Profiles folder to write to.  [default: the user's own, which is searched]",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget the engine's present constants.")
    ] = False,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out rows whose names mean no card.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="Device that a table of kernel times is of.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model that a table of kernel times is of.")
    ] = None,
    quant: Annotated[
        str, typer.Option("--quant", help="Quantization that a table of kernel times is of.")
    ] = "bf16",
    source: Annotated[
        str, typer.Option("--source", help="Who measured; written into the profile.")
    ] = "",
    as_of: Annotated[
        str, typer.Option("--as-of", help="Day of the data, year first.  [default: today]")
    ] = "",
    profiles: ProfilesOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Fit an engine's constants to measured speeds.

    Prints how wrong predictions are on the rows, and on devices that are left out of the fit, and
    writes engines/NAME.yaml with its error bands and where it is from. The table has one of the
    layouts of docs/model.md; one of kernel times makes constants for one device.

    Example: `planner calibrate mine.csv --engine llama.cpp --out profiles`
    """
    from planner.cli.cards import card, catalogue
    from planner.core.engine import Engine
    from planner.core.errors import UsageError
    from planner.files.catalogue import user_profiles
    from planner.files.kernels import is_kernel_table

    known = catalogue(profiles)
    folder = out or user_profiles()
    console.check_folder("--out", folder)
    engines = [card(known, "engines", name, Engine) for name in dict.fromkeys(engine)]
    if is_kernel_table(data):
        said = _provenance(source, data)
        report: CalibrationReport | KernelReport = _from_kernels(
            known, data, engines, (device, model, quant), said, folder
        )
    elif device or model:
        raise UsageError("--device and --model are for kernel times; other tables have columns")
    else:
        _day(as_of)
        report = _from_speeds(known, data, engines, (source, as_of), folder, fresh, skip_unknown)
    console.tell(report, format)


def _from_speeds(
    known: Catalogue,
    data: Path,
    engines: list[Engine],
    provenance: tuple[str, str],
    folder: Path,
    fresh: bool,
    skip_unknown: bool,
) -> CalibrationReport:
    """Engines fitted together to measured speeds, written."""
    from planner.core.errors import UsageError
    from planner.files.readable import write_card
    from planner.fit.engines import calibrate as fit
    from planner.report.calibrate import CalibrationReport

    source, as_of = provenance
    tables = [_read(data, known, one, skip_unknown) for one in engines]
    for one, table in zip(engines, tables, strict=True):
        _leave_out_crowds(table, one)
    rows = [(one, row) for one, table in zip(engines, tables, strict=True) for row in table.rows]
    empty = [one.id for one, table in zip(engines, tables, strict=True) if not table.rows]
    if empty:
        raise UsageError(
            f"{data} has no row of {', '.join(empty)} that can be used",
            _reasons(tables[[one.id for one in engines].index(empty[0])]),
        )
    said = _provenance(source, data)
    console.note(f"fitting {len(rows)} measurements, then again without each device")
    fitted = fit(rows, _devices(known), said, fresh=fresh)
    files = []
    for one, table in zip(fitted.engines, tables, strict=True):
        note = f"planner calibrate: {len(table.rows)} measurements fitted{_reasons(table)}"
        updated = one.model_copy(update={"as_of": _day(as_of), "source": said, "note": note})
        files.append(write_card(folder, updated))
    return CalibrationReport(fitted, tuple(table.left_out for table in tables), tuple(files))


def _from_kernels(
    known: Catalogue,
    data: Path,
    engines: list[Engine],
    names: tuple[str | None, str | None, str],
    source: str,
    folder: Path,
) -> KernelReport:
    """One engine with constants for the device whose kernels were timed, written."""
    from planner.cli.cards import card
    from planner.core.device import Device
    from planner.core.errors import UsageError
    from planner.core.model import ModelSpec
    from planner.core.quant import QuantScheme
    from planner.files.kernels import read_kernels
    from planner.files.readable import write_card
    from planner.fit.kernels import calibrate_kernels
    from planner.report.calibrate import KernelReport

    device, model, quant = names
    if not device or not model or len(engines) != 1:
        raise UsageError(
            f"{data} is a table of kernel times, which names no device and no model",
            "say --device and --model, --quant where it is not bf16, and one --engine",
        )
    times = read_kernels(
        data,
        card(known, "devices", device, Device),
        card(known, "models", model, ModelSpec),
        card(known, "quants", quant, QuantScheme),
    )
    try:
        fitted = calibrate_kernels(engines[0], times, source)
    except ValueError as error:
        raise UsageError(f"{data}: {error}", "a profiler has to time more of them") from None
    return KernelReport(fitted, write_card(folder, fitted.engine))


def _read(data: Path, known: Catalogue, engine: Engine, skip_unknown: bool) -> Measurements:
    from planner.core.engine import MeasuredAs
    from planner.files.measurements import read_measurements

    wanted = engine.measured_as or MeasuredAs(backend=engine.name)
    return read_measurements(data, known, wanted, skip_unknown)


def _leave_out_crowds(table: Measurements, engine: Engine) -> None:
    from planner.fit.speeds import held

    kept = held(engine, table.rows)
    if len(kept) < len(table.rows):
        table.left_out["more users than memory holds"] += len(table.rows) - len(kept)
    table.rows = kept


def _reasons(table: Measurements) -> str:
    parts = [
        f"{count} {reason}"
        for reason, count in sorted(table.left_out.items())
        if not reason.startswith("of another")
    ]
    return f"; left out: {', '.join(parts)}" if parts else ""


def _devices(known: Catalogue) -> list[Device]:
    from planner.core.device import Device

    return [known.get_as("devices", name, Device)[0] for name in known.names("devices")]


def _provenance(source: str, data: Path) -> str:
    """Who measured, and which file."""
    from planner.files.manifest import file_digest

    return f"{source or data.name}, sha256 {file_digest(data)[:12]}"


def _day(text: str) -> object:
    import datetime

    from planner.core.errors import UsageError

    try:
        return datetime.date.fromisoformat(text) if text else datetime.date.today()
    except ValueError:
        raise UsageError(f"--as-of {text} is no day", "write it as 2026-11-23") from None
