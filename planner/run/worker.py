"""A stage worker: one process that holds one stage and serves jobs in the order they come.

It is given one end of a connection to the coordinator and does what the control messages that
come over it say: ``pull`` weights, ``load`` a stage, ``gauge`` the processor,
``connect`` to the next process, ``replay`` what it sent before, answer a ``beat``, ``report`` its
steps, ``stop``; and, where work is verified, what ``Testimony`` answers, to ``hold`` stages of
others and to ``audit`` their work.

The main thread loads and computes, one thread answers the coordinator, one lets the process
before this one in. All of it survives the loss of a neighbour: a new one connects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import torch

from planner.core.cost.batch import Phase
from planner.core.cost.loading import WARM_TOKENS, warm_batches
from planner.core.errors import InvalidFileError, PlannerError, RunError
from planner.run.bench import Bench
from planner.run.checkpoint import Checkpoint, open_checkpoint
from planner.run.clock import own_s
from planner.run.compute import hidden, result_of
from planner.run.contest import settled
from planner.run.frames import (
    Frame,
    FrameError,
    Kind,
    PeerLostError,
    control,
    encode,
    read_control,
    read_frame,
    send_all,
)
from planner.run.gauge import gauge
from planner.run.haul import receive
from planner.run.linear import Kernels, as_told
from planner.run.model import CacheShape, Stage
from planner.run.outlet import Outlet
from planner.run.ready import ready
from planner.run.steps import Step
from planner.run.testimony import Testimony
from planner.run.transport import Channel, LinkShape, Listener, connect

_MOST_STEPS = 2**18
"""Kept for the report, the latest ones: a service may run for months."""
_WIRE_ITEM_BYTES = 4


class _Caller(NamedTuple):
    """The process before this one, as it connected."""

    sock: socket.socket
    epoch: int


_Task = dict[str, Any] | _Caller | None
"""Something to load, read or audit, a connection to serve, or the end."""


class StageWorker:
    """The process's state: connections, stage and step records."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._writing = threading.Lock()
        self._switching = threading.Lock()
        self._todo: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._inbound: socket.socket | None = None
        self._entered = 0
        """Epoch of the latest connection that was let in."""
        self._outlet = Outlet()
        self._epoch = 0
        self._steps: deque[Step] = deque(maxlen=_MOST_STEPS)
        self._busy_since_s: float | None = None
        self._stage: Stage | None = None
        self._wire = "plain"
        self._testimony = Testimony(self._tell)
        self._bench = Bench(self._tell)
        self._held: dict[int, tuple[int, int]] = {}
        """Session and tokens in each slot of the cache."""

    def serve(self) -> None:
        """Does what it is told until the coordinator says stop or is gone."""
        threading.Thread(target=self._obey, daemon=True).start()
        while (item := self._todo.get()) is not None:
            if isinstance(item, dict) and "audit" in item:
                self._bench.audit(item["audit"])
            elif isinstance(item, dict) and "hold" in item:
                self._bench.hold(item["hold"])
            elif isinstance(item, dict) and "gauge" in item:
                self._tell({"gauge": dataclasses.asdict(gauge())})
            elif isinstance(item, dict) and "pull" in item:
                self._tell({"pulled": receive(**item["pull"])})
            elif isinstance(item, dict):
                self._load(item)
            else:
                self._compute(item)
        self._outlet.close()

    def tell_error(self, error: Exception) -> None:
        """Sends the coordinator what went wrong, for it to raise."""
        report: dict[str, Any] = {"message": str(error) or repr(error), "hint": "", "problems": []}
        if isinstance(error, PlannerError):
            report["hint"] = error.hint
        if isinstance(error, InvalidFileError):
            report["problems"] = [[p.file, p.message, p.path] for p in error.problems]
        self._say({"error": report})

    def _tell(self, message: dict[str, Any]) -> None:
        with self._writing:
            send_all(self._control, encode(control(message)))

    def _say(self, message: dict[str, Any]) -> None:
        """Tells the coordinator, if it is still there."""
        with contextlib.suppress(PeerLostError):
            self._tell(message)

    def _load(self, order: dict[str, Any]) -> None:
        """Holds a stage from now on, its kernels chosen and warmed up, and lets callers in."""
        begun_s = time.monotonic()
        torch.set_num_threads(order["threads"])
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        if torch.get_num_threads() != order["threads"]:
            raise RunError(f"torch does not keep to {order['threads']} threads")
        kernels = as_told(order["kernels"], order["quant"], order["device"], order["slots"])
        self._stage = None  # before the next one takes its memory
        opened = self._open(order)

        def make(chosen: Kernels) -> Stage:
            return Stage(
                opened,
                order["start"],
                order["stop"],
                order["quant"],
                CacheShape(order["slots"], order["slot_tokens"]),
                device=order["device"],
                kernels=chosen,
            )

        race = order["kernels"] is None and order.get("compiled", False)
        self._stage = stage = settled(make, kernels) if race else make(kernels)
        self._held.clear()
        self._wire = order.get("wire", "plain")
        _warm_up(stage)
        gc.freeze()  # a collection that walks all of torch would take longer than a step
        listener = Listener(order["secret"])
        threading.Thread(target=self._let_in, args=(listener,), daemon=True).start()
        said = {"port": listener.port, "load_s": time.monotonic() - begun_s}
        self._tell(_described(stage) | said)

    def _open(self, order: dict[str, Any]) -> Checkpoint:
        """The weights that it computes with."""
        return open_checkpoint(Path(order["checkpoint"]), range(order["start"], order["stop"]))

    def _let_in(self, listener: Listener) -> None:
        """Takes the latest connection of the stage before this one in place of any older."""
        while True:
            sock, name = listener.accept(timeout_s=None)
            epoch = int(name) if name.isdecimal() else -1
            if epoch >= max(self._entered, self._epoch):  # callers are met in any order
                self._entered = epoch
                self._next(_Caller(sock, epoch))
            else:
                sock.close()

    def _next(self, task: _Task) -> None:
        """Has the main thread do something else than wait at the connection it has."""
        with self._switching:
            self._todo.put(task)
            if self._inbound is not None:
                with contextlib.suppress(OSError):
                    self._inbound.shutdown(socket.SHUT_RDWR)
                self._inbound = None

    def _obey(self) -> None:
        """Answers the coordinator while the main thread computes; its silence means stop."""
        try:
            while "stop" not in (message := read_control(self._control)):
                self._do(message)
        except PeerLostError:
            pass
        except Exception as error:
            traceback.print_exc()
            self.tell_error(error)
        self._next(None)

    def _do(self, message: dict[str, Any]) -> None:
        if "beat" in message:
            since_s = self._busy_since_s
            busy_s = 0.0 if since_s is None else time.monotonic() - since_s
            said = {"beat": message["beat"], "busy_s": busy_s, "clock_s": time.monotonic()}
            self._tell(said | {"did": self._told()})
        elif "load" in message:
            self._next(message["load"])
        elif "connect" in message:
            self._connect(message["connect"])
        elif "replay" in message:
            order = message["replay"]
            self._tell({"replaying": self._outlet.replay(order["live"], order["as_sent"])})
        elif "report" in message:
            self._tell({"steps": self._told()})
        elif not {"audit", "hold", "gauge", "pull"}.isdisjoint(message):
            self._next(message)
        else:
            self._testimony.answer(message)

    def _told(self) -> list[Step]:
        """What it did since it last said so: a worker that is lost has told nearly all of it."""
        return [self._steps.popleft() for _ in range(len(self._steps))]

    def _connect(self, order: dict[str, Any]) -> None:
        """Leads the results to another process; says so, or that nobody is there."""
        self._epoch = order["epoch"]
        shape = LinkShape(**order["link"]) if order["link"] else None
        try:
            sock = connect(order["port"], order["secret"], str(self._epoch))
        except PeerLostError as error:
            self._tell({"connected": self._epoch, "failure": str(error)})
            return

        def broken(epoch: int = self._epoch) -> None:
            self._say({"broken": epoch})

        self._outlet.lead(Channel(sock, shape, broken), order["fence"], broken)
        self._tell({"connected": self._epoch, "failure": ""})

    def _compute(self, caller: _Caller) -> None:
        """Serves the jobs that come over a connection, until it ends or another takes its place."""
        stage, inbound = self._stage, caller.sock
        if stage is None:
            return
        limit_bytes = (
            _WIRE_ITEM_BYTES
            * stage.config.hidden_size
            * max(stage.cache.slot_tokens, stage.cache.slots)
        )
        with self._switching:
            self._inbound = inbound if self._todo.empty() else None
        with inbound:
            while self._todo.empty():
                ready_s = time.monotonic()
                behind = bool(ready([inbound]))
                try:
                    frame = read_frame(inbound, limit_bytes)
                except PeerLostError:
                    if self._todo.empty():
                        self._say({"broken": caller.epoch})
                    return
                self._busy_since_s = received_s = time.monotonic()
                if self._outlet.current(frame):
                    self._serve(stage, frame, 0.0 if behind else received_s - ready_s)
                self._busy_since_s = None

    def _serve(self, stage: Stage, frame: Frame, waited_s: float) -> None:
        """Computes one job, sends its result on and notes how long that took."""
        received_s = time.monotonic()
        self._check(frame)
        began_s = own_s(stage.device)
        y = hidden(stage, frame)
        result = result_of(stage, frame, y, self._wire)
        worked_s, computed_s = own_s(stage.device) - began_s, time.monotonic()
        with self._testimony.of(frame, y, result, worked_s):
            if result is not None:
                self._outlet.send(result)
        for seat in frame.seats:
            self._held[seat.slot] = (seat.session, seat.position + seat.tokens)
        phase: Phase = "decode" if frame.kind is Kind.DECODE else "prefill"
        context_tokens = sum(seat.position for seat in frame.seats)
        step = Step(
            frame.job,
            phase,
            len(frame.seats),
            frame.rows,
            context_tokens,
            waited_s,
            received_s,
            computed_s,
        )
        if frame.replay:
            self._tell({"replayed": step})
        else:
            self._steps.append(step)

    def _check(self, frame: Frame) -> None:
        """Raises FrameError where a job counts on tokens that its slot does not hold or cannot."""
        cache = self._stage.cache if self._stage else None
        for seat in frame.seats:
            if cache is None or not cache.has(seat.slot, seat.position + seat.tokens):
                raise FrameError(f"there is no token {seat.position} in a slot {seat.slot}")
            session, tokens = self._held.get(seat.slot, (-1, 0))
            known = session == seat.session and tokens >= seat.position
            if seat.position and not known and not frame.replay:
                raise FrameError(
                    f"session {seat.session} goes on at token {seat.position}, but slot "
                    f"{seat.slot} holds {tokens} of session {session}"
                )


def _described(stage: Stage) -> dict[str, Any]:
    """What the driver wants to know of a stage."""
    return {
        "weight_bytes": stage.weight_bytes,
        "cache_bytes": stage.cache_bytes,
        "kernels": dataclasses.asdict(stage.kernels),
    }


def _warm_up(stage: Stage) -> None:
    """Steps of the sizes to come, so that the first request does not pay for one-time work."""
    columns = () if stage.first else (stage.config.hidden_size,)
    dtype = torch.int32 if stage.first else stage.dtype
    tokens = min(WARM_TOKENS, stage.cache.slot_tokens - 1)
    for batch in warm_batches(stage.cache.slots):
        rows = int(batch.sequences)
        if batch.phase == "prefill":
            stage.prefill(torch.zeros((tokens, *columns), dtype=dtype, device=stage.device), 0)
        else:
            x = torch.zeros((rows, *columns), dtype=dtype, device=stage.device)
            stage.decode(x, range(rows), [tokens] * rows)


def main(control: int) -> None:
    """Entry point of the process, with the descriptor of its connection to the coordinator."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides when to stop
    sys.setswitchinterval(5e-4)  # a sending thread should not wait 5 ms for the computing one
    worker = StageWorker(socket.socket(fileno=control))
    try:
        worker.serve()
    except PeerLostError:
        return
    except Exception as error:
        traceback.print_exc()
        worker.tell_error(error)
