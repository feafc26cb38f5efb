"""What ``planner probe`` measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.core.device import Device
from planner.core.engine import Engine
from planner.core.units import show
from planner.report.tables import Lines


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The cards of a host and the files they were written to."""

    device: Device
    engine: Engine
    workers: int
    files: tuple[Path, ...]

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        calibration = self.engine.calibration(self.device)
        band = calibration.error_band
        return {
            "device": self.device.id,
            "engine": self.engine.id,
            "files": [str(file) for file in self.files],
            "workers": self.workers,
            "threads": self.device.threads,
            "memory_bytes": self.device.memory_bytes,
            "memory_bytes_per_s": self.device.memory_bytes_per_s,
            "flop_per_s": dict(self.device.flop_per_s),
            "layer_overhead_ms": calibration.layer_overhead_s * 1e3,
            "step_overhead_ms": calibration.step_overhead_s * 1e3,
            "wake_ms": calibration.wake_s * 1e3,
            "hop_ms": self.engine.hop_s * 1e3,
            "coordinator_step_ms": self.engine.coordinator_step_s * 1e3,
            "efficiency": {
                quant: entry.model_dump(mode="json")
                for quant, entry in calibration.efficiency.items()
            },
            "error_band": {"median": band.median, "p90": band.p90} if band else None,
        }

    def text(self) -> Lines:
        """Texts and tables for people."""
        from rich.table import Table

        device, engine = self.device, self.engine
        calibration = engine.calibration(device)
        yield f"{device.name}, {device.threads} threads"
        yield ""
        table = Table.grid(padding=(0, 3))
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        table.add_row("Memory", show(device.memory_bytes, "bytes"), "of one worker")
        rate = show(device.memory_bytes_per_s, "bytes_per_s")
        table.add_row("Bandwidth", rate, "streaming read")
        for dtype, flop_per_s in device.flop_per_s.items():
            table.add_row(f"{dtype} products", show(flop_per_s, "flop_per_s"), "square matrices")
        table.add_row("Per layer", show(calibration.layer_overhead_s, "s"), "overhead")
        table.add_row("Per step", show(calibration.step_overhead_s, "s"), "overhead of a stage")
        wake = show(calibration.wake_s, "s")
        table.add_row("Waking up", wake, "per step of a stage that waits for others")
        table.add_row("Per hop", show(engine.hop_s, "s"), "software between two workers")
        table.add_row("Coordinator", show(engine.coordinator_step_s, "s"), "per step of a batch")
        yield table
        yield ""
        band = calibration.error_band
        if band is not None:
            yield (
                f"Step times of model shapes left out of the fit were off by {band.median:.0%} in "
                f"the median and {band.p90:.0%} at p90."
            )
        for file in self.files:
            yield f"wrote {file}"
