"""A stage worker: one process that holds one stage and serves jobs in the order they come.

Started as ``python -m planner.run.worker FD`` with one end of a socket pair. It does what the
driver's control messages say: ``load`` a stage, ``connect`` to the next process, ``report`` its
steps, ``stop``.
"""

from __future__ import annotations

import dataclasses
import gc
import select
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from planner.core.cost.batch import Phase
from planner.core.errors import InvalidFileError, PlannerError, RunError
from planner.run.checkpoint import open_checkpoint
from planner.run.frames import (
    Frame,
    Kind,
    PeerLostError,
    control,
    encode,
    read_control,
    read_frame,
    send_all,
)
from planner.run.linear import Kernels, race
from planner.run.model import CacheShape, Stage
from planner.run.sampling import pick
from planner.run.steps import Step
from planner.run.transport import Channel, LinkShape, Listener, connect

_TORCH = {"int32": torch.int32, "float32": torch.float32, "bfloat16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _TORCH.items()}
_WARM_ROWS = 16
_WARM_TOKENS = 16
_WIRE_ITEM_BYTES = 4


class Worker:
    """The process's state: connections, stage and step records."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._writing = threading.Lock()
        self._inbound: socket.socket | None = None
        self._steps: list[Step] = []

    def serve(self) -> None:
        """Loads, connects, then computes until the driver says stop or is gone."""
        order = read_control(self._control)["load"]
        stage = self._load(order)
        listener = Listener(order["secret"])
        self._tell(_described(stage) | {"port": listener.port})
        after = read_control(self._control)["connect"]
        shape = LinkShape(**after["link"]) if after["link"] else None
        channel = Channel(connect(after["port"], order["secret"], after["name"]), shape)
        self._inbound, _ = listener.accept(timeout_s=60)
        listener.close()
        self._tell({"connected": True})
        gc.freeze()  # a collection that walks all of torch would take longer than a step
        listening = threading.Thread(target=self._obey, daemon=True)
        listening.start()
        try:
            self._compute(stage, self._inbound, channel)
        except PeerLostError:
            listening.join()

    def tell_error(self, error: Exception) -> None:
        """Sends the driver what went wrong, for it to raise."""
        report: dict[str, Any] = {"message": str(error) or repr(error), "hint": "", "problems": []}
        if isinstance(error, PlannerError):
            report["hint"] = error.hint
        if isinstance(error, InvalidFileError):
            report["problems"] = [[p.file, p.message, p.path] for p in error.problems]
        self._tell({"error": report})

    def _tell(self, message: dict[str, Any]) -> None:
        with self._writing:
            send_all(self._control, encode(control(message)))

    def _load(self, order: dict[str, Any]) -> Stage:
        """The stage, its kernels chosen and warmed up."""
        torch.set_num_threads(order["threads"])
        torch.set_num_interop_threads(1)
        if torch.get_num_threads() != order["threads"]:
            raise RunError(f"torch does not keep to {order['threads']} threads")
        chosen = order["kernels"]
        if chosen is None:
            kernels = race(order["quant"], order["device"], order["slots"])
        else:
            kernels = Kernels(tuple(chosen["bf16"]), tuple(chosen["int8"]), chosen["packed"])
        stage = Stage(
            open_checkpoint(Path(order["checkpoint"]), range(order["start"], order["stop"])),
            order["start"],
            order["stop"],
            order["quant"],
            CacheShape(order["slots"], order["slot_tokens"]),
            device=order["device"],
            kernels=kernels,
        )
        _warm_up(stage)
        return stage

    def _obey(self) -> None:
        """Answers the driver while the main thread computes; its silence means stop."""
        try:
            while "stop" not in (message := read_control(self._control)):
                if "report" in message:
                    self._tell({"steps": self._steps})
        except PeerLostError:
            pass
        if self._inbound is not None:
            self._inbound.shutdown(socket.SHUT_RDWR)

    def _compute(self, stage: Stage, inbound: socket.socket, channel: Channel) -> None:
        limit_bytes = (
            _WIRE_ITEM_BYTES
            * stage.config.hidden_size
            * max(stage.cache.slot_tokens, stage.cache.slots)
        )
        while True:
            ready_s = time.monotonic()
            behind = bool(select.select([inbound], [], [], 0)[0])
            frame = read_frame(inbound, limit_bytes)
            received_s = time.monotonic()
            answer = _answer(stage, frame)
            computed_s = time.monotonic()
            channel.send(answer)
            phase: Phase = "prefill" if frame.kind is Kind.PREFILL else "decode"
            self._steps.append(
                Step(
                    frame.job,
                    phase,
                    len(frame.seats),
                    frame.rows,
                    sum(seat.position for seat in frame.seats),
                    0.0 if behind else received_s - ready_s,
                    received_s,
                    computed_s,
                )
            )


def _described(stage: Stage) -> dict[str, Any]:
    """What the driver wants to know of a stage."""
    return {
        "weight_bytes": stage.weight_bytes,
        "cache_bytes": stage.cache_bytes,
        "kernels": dataclasses.asdict(stage.kernels),
    }


def _answer(stage: Stage, frame: Frame) -> Frame:
    """The frame that goes on: hidden states for the next stage, or tokens for the driver."""
    x = torch.frombuffer(frame.payload, dtype=_TORCH[frame.dtype])
    if frame.columns > 1:
        x = x.view(frame.rows, frame.columns)
    x = x.to(stage.device)
    if frame.kind is Kind.PREFILL:
        y = stage.prefill(x, frame.seats[0].slot)
    else:
        y = stage.decode(x, [s.slot for s in frame.seats], [s.position for s in frame.seats])
    if not stage.last:
        return frame._replace(
            dtype=_NAMES[y.dtype], columns=y.shape[1], payload=_bytes(y.to("cpu"))
        )
    picked = pick(y, frame.seats, frame.rows if frame.kind is Kind.PREFILL else 1)
    return Frame(Kind.TOKENS, frame.job, (), "int32", len(picked), 1, _bytes(picked))


def _bytes(x: Tensor) -> memoryview:
    return x.contiguous().view(torch.uint8).numpy().data.cast("B")


def _warm_up(stage: Stage) -> None:
    """Steps of the sizes to come, so that the first request does not pay for one-time work."""
    tokens = min(_WARM_TOKENS, stage.cache.slot_tokens - 1)
    columns = () if stage.first else (stage.config.hidden_size,)
    dtype = torch.int32 if stage.first else stage.dtype
    stage.prefill(torch.zeros((tokens, *columns), dtype=dtype, device=stage.device), 0)
    for rows in range(1, min(stage.cache.slots, _WARM_ROWS) + 1):
        x = torch.zeros((rows, *columns), dtype=dtype, device=stage.device)
        stage.decode(x, range(rows), [tokens] * rows)


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    sys.setswitchinterval(5e-4)  # a sending thread should not wait 5 ms for the computing one
    worker = Worker(socket.socket(fileno=int(sys.argv[1])))
    try:
        worker.serve()
    except PeerLostError:
        return
    except Exception as error:
        traceback.print_exc()
        worker.tell_error(error)


if __name__ == "__main__":
    main()
