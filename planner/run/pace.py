"""Pace: what steps of the stage that a worker holds take right now.

The stages of a run make them in turn, as they do in a run: what the others leave of a cache that
all share, and how long a worker slept, is part of what a step takes.
"""

from __future__ import annotations

import time

import torch

from planner.core.cost.batch import Phase
from planner.run.compute import hidden, result_of
from planner.run.frames import Frame, Kind, Seat
from planner.run.model import Stage
from planner.run.rehearsal import held_tokens


def step_s(stage: Stage, wire: str, phase: Phase) -> float:
    """One step of a stage; it leaves nothing in the cache that a session would count on."""
    tokens = held_tokens(stage.cache.slot_tokens)
    if phase == "prefill":
        frame = _frame(stage, Kind.PREFILL, (Seat(slot=0, position=0, tokens=tokens),), tokens)
    else:
        seats = tuple(Seat(slot=slot, position=tokens) for slot in range(stage.cache.slots))
        frame = _frame(stage, Kind.DECODE, seats, len(seats))
    begun_s = time.monotonic()
    result_of(stage, frame, hidden(stage, frame), wire)
    return time.monotonic() - begun_s


def _frame(stage: Stage, kind: Kind, seats: tuple[Seat, ...], rows: int) -> Frame:
    columns = 1 if stage.first else stage.config.hidden_size
    dtype = torch.int32 if stage.first else stage.dtype
    payload = torch.zeros(rows * columns, dtype=dtype).view(torch.uint8).numpy().data
    return Frame(kind, 0, seats, str(dtype).removeprefix("torch."), rows, columns, payload)
