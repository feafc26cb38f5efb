"""Clock: how long a step takes on the device that computes it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from planner.core.errors import RunError

_POINT_BUDGET_S = 0.3
_LEAST_REPEATS = 3


def need(device: str) -> None:
    """Raises RunError where torch sees no such device."""
    if device == "cpu":
        return
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) >= seen:
        raise RunError(
            f"torch sees {seen} CUDA devices, so there is no {device}",
            "install a CUDA build of torch (README) and see that nvidia-smi lists the device",
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """Times steps on ``cpu`` or on ``cuda``, where CUDA's own events are the clock."""

    device: str = "cpu"

    def median_s(self, step: Callable[[], object]) -> float:
        """Median seconds of a step after a warm-up; steps follow each other without a pause."""
        step()
        taken_s: list[float] = []
        begun_s = time.perf_counter()
        while len(taken_s) < _LEAST_REPEATS or time.perf_counter() - begun_s < _POINT_BUDGET_S:
            taken_s.append(self.seconds(step))
        return statistics.median(taken_s)

    def seconds(self, step: Callable[[], object]) -> float:
        """Seconds of one run: on a GPU from its first launch until its last kernel has ended."""
        if not self.device.startswith("cuda"):
            start_s = time.perf_counter()
            step()
            return time.perf_counter() - start_s
        torch.cuda.synchronize(self.device)
        timed: type[torch.cuda.Event] = torch.cuda.Event
        begin, end = timed(enable_timing=True), timed(enable_timing=True)
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize(self.device)
        return float(begin.elapsed_time(end)) / 1e3


def own_s(device: torch.device) -> float:
    """A clock of what this thread computes on a device (s).

    On a CPU it stands still while others go first: what a thread waits for is not its work.
    """
    return time.thread_time() if device.type == "cpu" else time.perf_counter()
