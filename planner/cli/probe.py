"""``planner probe``: measures this host into profiles that scenarios can name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli import console, peers
from planner.cli.console import Format, FormatOption
from planner.run.settings import QUANTS

if TYPE_CHECKING:
    from planner.core.device import Device
    from planner.core.engine import Engine
    from planner.core.quant import QuantScheme


def probe(
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=1,
            help="Local workers that will share this host; each gets its part of the cores.",
        ),
    ] = 1,
    device: Annotated[
        str, typer.Option("--device", help="What to measure: cpu, cuda or cuda:N.")
    ] = "cpu",
    quant: Annotated[
        list[str] | None,
        typer.Option(
            "--quant",
            metavar="NAME",
            help="Measure this quantization only: fp32, bf16 or int8. Repeatable.  [default: all]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Profiles folder to write to.  [default: the user's own, which is searched]",
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="HOST:PORT",
            help="Measure the link to a host that listens, instead of this host. Repeatable.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Be the other end of such a measurement."
        ),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Measure this host into profiles.

    Times the code that `planner run` executes. Writes devices/this-host.yaml and
    engines/this-host.yaml, so that scenarios and `planner estimate --device this-host` can name
    it; for --device cuda the name is this-gpu. Takes one to three minutes; let nothing else run
    meanwhile.

    With --peer the links to other hosts are measured instead: round trips, throughput of one
    stream and of several each way, segments sent again. Their figures are printed as `links:` of a
    scenario, or written to links.yaml with --out. Those hosts run `planner probe --listen`.

    Example: `planner probe --workers 3`
    """
    from planner.core.errors import UsageError
    from planner.files.catalogue import Catalogue, user_profiles
    from planner.files.readable import write_card
    from planner.report.probe import ProbeReport

    if listen is not None and peer:
        raise UsageError("--listen and --peer are the two ends of a link; give one of them")
    if listen is not None:
        peers.listen(listen)
        return
    if peer:
        peers.measure(peer, out, format)
        return
    cores = len(os.sched_getaffinity(0))
    if workers > cores:
        console.warn(f"{workers} workers have only {cores} cores; they will wait for each other")
    folder = out or user_profiles()
    console.check_folder("--out", folder)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"--device {device} is none", "write cpu, cuda or cuda:1")
    names = tuple(quant or QUANTS)
    if unknown := [name for name in names if name not in QUANTS]:
        raise UsageError(f"--quant {unknown[0]} is none", f"write {', '.join(QUANTS)}")
    card, engine = _measure(max(1, cores // workers), workers, device, names)
    files = (write_card(folder, card), write_card(folder, engine))
    written = Catalogue(Path(), (folder,))
    written.get("devices", card.id)
    written.get("engines", engine.id)
    report = ProbeReport(card, engine, workers, files)
    console.tell(report, format)
    if folder not in Catalogue(Path()).folders:
        console.note(f"to use it, pass --profiles {folder} or set PLANNER_PROFILES")


def _measure(threads: int, workers: int, on: str, names: Sequence[str]) -> tuple[Device, Engine]:
    """The cards of a device here; raises RunError where torch or the device is missing."""
    from planner.cli.extra import needs

    with needs("run", "planner probe"):
        from planner.run.clock import need
        from planner.run.overheads import measure_overheads
        from planner.run.probe import measure_device, measure_steps
    from planner.fit.host import Overheads, host_engine

    need(on)
    quants = _quants(names)
    with_what = f"{threads} threads" if on == "cpu" else on
    console.note(f"measuring with {with_what}, for one to three minutes")
    device = measure_device(threads, workers, on)
    with console.progress("timing steps", 1.0) as advance:
        steps = measure_steps(device, quants, done=lambda _step, of: advance(1 / of), on=on)
    console.note("running a small model on one and on three local workers")
    main = next((quant for quant in quants if quant.id == "bf16"), quants[0])
    found = measure_overheads(device, main, on)
    overheads = Overheads(
        found.hop_s, found.coordinator_step_s, found.worker_steps, found.takeover_s, found.loads
    )
    return device, host_engine(device, steps, overheads)


def _quants(names: Sequence[str]) -> list[QuantScheme]:
    from planner.cli.cards import card, catalogue
    from planner.core.quant import QuantScheme

    known = catalogue(None)
    return [card(known, "quants", name, QuantScheme) for name in names]
