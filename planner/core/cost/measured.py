"""MeasuredStep: how long a step really took, beside what the cost model says."""

from __future__ import annotations

from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.device import Device
from planner.core.engine import Calibration
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """How long layers ``[start, stop)`` of a model took for one step of a batch."""

    device: Device
    model: ModelSpec
    start: int
    stop: int
    quant: QuantScheme
    batch: Batch
    seconds: float
    count: int = 1
    """Devices that worked on it together."""

    @property
    def is_whole(self) -> bool:
        """Whether it ran through all layers."""
        return self.start == 0 and self.stop == self.model.num_hidden_layers

    def predicted_s(self, calibration: Calibration) -> float:
        """What the cost model says under a calibration (s)."""
        chip = Chip(self.device, calibration, self.count)
        return stage_time(self.model, self.start, self.stop, self.quant, chip, self.batch).total_s

    def error(self, calibration: Calibration) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s(calibration) / self.seconds - 1
