"""What a stage makes of a frame: hidden states for the next stage, or tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from planner.run.frames import Frame, Kind
from planner.run.model import Stage
from planner.run.sampling import pick
from planner.run.wire import INT8, narrow, widen

_TORCH = {"int32": torch.int32, "float32": torch.float32, "bfloat16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in _TORCH.items()}
"""Number formats as frames name them."""


def hidden(stage: Stage, frame: Frame) -> Tensor:
    """Hidden states [rows, H] behind the stage's layers."""
    if frame.dtype == INT8:
        data = torch.frombuffer(frame.payload, dtype=torch.uint8).view(frame.rows, frame.columns)
        x = widen(data, stage.config.hidden_size, stage.dtype)
        return stage.hidden(x.to(stage.device), frame.spans)
    x = torch.frombuffer(frame.payload, dtype=_TORCH[frame.dtype])
    if frame.columns > 1:
        x = x.view(frame.rows, frame.columns)
    return stage.hidden(x.to(stage.device), frame.spans)


def result_of(stage: Stage, frame: Frame, y: Tensor, wire: str) -> Frame | None:
    """The frame that goes on: hidden states for the next stage, or tokens for the coordinator."""
    if not stage.last and wire == "int8":
        data = narrow(y).to("cpu")
        return frame._replace(dtype=INT8, columns=data.shape[1], payload=bytes_of(data))
    if not stage.last:
        return frame._replace(
            dtype=NAMES[y.dtype], columns=y.shape[1], payload=bytes_of(y.to("cpu"))
        )
    if frame.replay or frame.kind is Kind.CHUNK:
        return None
    if frame.kind is Kind.PREFILL:
        y = y[-1:]
        picked = pick(stage.logits(y), frame.seats, frame.seats[0].tokens)
    else:
        each = [
            seat._replace(position=seat.position + step)
            for seat in frame.seats
            for step in range(seat.tokens)
        ]
        picked = pick(stage.logits(y), each, 1)
    return Frame(Kind.TOKENS, frame.job, (), "int32", len(picked), 1, bytes_of(picked))


def bytes_of(x: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU."""
    return x.contiguous().view(torch.uint8).numpy().data.cast("B")
