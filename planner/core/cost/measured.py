"""What was measured on real hardware, beside what the cost model says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.estimate import Estimate, Load, estimate
from planner.core.device import Device
from planner.core.engine import Calibration, Engine
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


Speed = Literal["prefill_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms"]
"""What benchmark tables of engines report, named as in the JSON of ``planner estimate``."""

SPEEDS: Mapping[Speed, Callable[[Estimate], float]] = {
    "prefill_tok_s": lambda found: found.prefill_tokens_per_s,
    "decode_tok_s": lambda found: found.decode_tokens_per_s,
    "ttft_ms": lambda found: found.ttft_s * 1e3,
    "tpot_ms": lambda found: found.tpot_s * 1e3,
}


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """How fast an engine really was on a node under a load."""

    device: Device
    count: int
    model: ModelSpec
    quant: QuantScheme
    load: Load
    speed: Speed
    value: float
    place: str = ""
    """Where it was read, for messages."""

    @property
    def asked(self) -> tuple[str, int, str, str, Load]:
        """What was measured; several speeds may be told of it."""
        return self.device.id, self.count, self.model.id, self.quant.id, self.load

    def estimated(self, engine: Engine) -> Estimate:
        """What the cost model says of it."""
        return estimate(self.model, self.quant, self.device, self.count, engine, self.load)

    def crowding(self, engine: Engine) -> float:
        """Memory that all requests together need, over what the engine may use."""
        said = self.estimated(engine)
        return said.memory.total_bytes / said.capacity_bytes

    def error(self, engine: Engine) -> float:
        """(predicted - measured) / measured."""
        return SPEEDS[self.speed](self.estimated(engine)) / self.value - 1
