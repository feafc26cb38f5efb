"""Contest: whether compiled programs, or a GPU's recorded steps, beat torch's kernels in a stage.

Both run on the stage's own weights, which are cold in cache as they are in a run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch

from planner.run.clock import Clock
from planner.run.linear import Kernels
from planner.run.model import Stage

_STEPS = 9
_LEAST_GAIN = 1.03


def settled(make: Callable[[Kernels], Stage], kernels: Kernels) -> Stage:
    """A stage that ``make`` makes with these kernels, or with programs where they are faster.

    On a GPU those are recordings of whole steps.

    Programs read plain weights. Packed ones, which serve several rows better, make room for them
    only in a stage that has a single seat. What loses is dropped before the other is made, so
    that a stage never takes its memory twice.
    """
    stage = make(kernels)
    crowded = kernels.packed and stage.cache.slots > 1
    if stage.quant == "fp32" or crowded:
        return stage
    plain_s = _row_s(stage)
    del stage
    stage = make(replace(kernels, packed=False, compiled=True))
    if stage.quick and _row_s(stage) * _LEAST_GAIN < plain_s:
        return stage
    del stage
    return make(kernels)


def _row_s(stage: Stage) -> float:
    """Median seconds of a decode step of one row."""
    held = stage.cache.slot_tokens - 1
    if stage.first:
        x = torch.zeros(1, dtype=torch.int32, device=stage.device)
    else:
        x = torch.zeros((1, stage.config.hidden_size), dtype=stage.dtype, device=stage.device)
    clock = Clock(str(stage.device))
    taken_s = [clock.seconds(lambda: stage.decode(x, [0], [held])) for _ in range(_STEPS)]
    return statistics.median(taken_s)
