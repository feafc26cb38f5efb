"""Bench: audits in a worker process: fetches what a node signed, computes it again, signs."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import TypeAdapter, ValidationError

from planner.receipts.record import Receipt, StageSeat
from planner.receipts.tree import State
from planner.run.auditor import Answer, audit
from planner.run.checkpoint import open_checkpoint
from planner.run.clock import own_s
from planner.run.docket import Case
from planner.run.frames import FrameError, PeerLostError, Seat, read_control, read_frame
from planner.run.linear import ROWS, as_told
from planner.run.model import CacheShape, Stage
from planner.run.notary import Evidence
from planner.run.reexecution import LEAST_TOKENS, Passage, reexecute
from planner.run.transport import Listener

_EVIDENCE_S = 30.0
_ITEM_BYTES = 4
_BEFORE_BYTES = 2**16
_STATE: TypeAdapter[State] = TypeAdapter(State)


class Bench:
    """Stages that a verifier holds, and the audits it makes with them."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._stages: dict[tuple[int, int, str], Stage] = {}

    def hold(self, order: dict[str, Any]) -> None:
        """Loads and warms up a stage, for audits to come; says so."""
        give_way()
        torch.set_num_threads(order["threads"])
        held = (order["start"], order["stop"], order["quant"])
        if held not in self._stages:
            stage = self._stages[held] = Stage(
                open_checkpoint(Path(order["checkpoint"]), range(order["start"], order["stop"])),
                *held,
                CacheShape(1, order["slot_tokens"]),
                device=order["device"],
                kernels=as_told(order["kernels"], order["quant"], order["device"], ROWS[-1]),
            )
            _warm_up(stage)
            gc.freeze()  # as a stage does
        self._tell({"held": held})

    def audit(self, order: dict[str, Any]) -> None:
        """Makes one audit of a stage it holds and tells the signed result.

        Evidence that does not come is none.
        """
        case = Case(Receipt.model_validate(order["receipt"]), order["digest"], order["verifier"])
        seat = StageSeat.model_validate(order["seat"])
        stage = self._stages[seat.start, seat.stop, order["quant"]]
        evidence = self._fetch(order, case.receipt.count, stage)
        answer = Answer(order["prompt_tokens"], order["tokens"], Seat(*order["picking"]))
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(order["key"]))
        began_s = own_s(stage.device)
        record = audit(stage, case, evidence, answer, seat, key)
        self._tell(
            {
                "audited": case.digest,
                "line": record.line.decode(),
                "audit_s": own_s(stage.device) - began_s,
                "shown": bool(evidence.entered),
            }
        )

    def _fetch(self, order: dict[str, Any], positions: int, stage: Stage) -> Evidence:
        """The bytes of the session, from the node that signed them."""
        listener = Listener(order["secret"])
        self._tell({"auditing": order["digest"], "port": listener.port})
        limit_bytes = positions * stage.config.hidden_size * _ITEM_BYTES
        try:
            sock, _ = listener.accept(_EVIDENCE_S)
            with contextlib.closing(sock):
                sock.settimeout(_EVIDENCE_S)
                before = read_control(sock, _BEFORE_BYTES)
                entered = read_frame(sock, limit_bytes)
                hidden = read_frame(sock, limit_bytes)
        except (TimeoutError, PeerLostError, FrameError):
            return Evidence(b"", "none", b"", "none")
        finally:
            listener.close()
        parts = (bytes(entered.payload), entered.dtype, bytes(hidden.payload), hidden.dtype)
        wire, states = str(before.get("wire", "")), (before.get("in"), before.get("out"))
        return Evidence(*parts, wire, *map(_state, states))


def give_way() -> None:
    """Lets every other process of the host go first: stages have clients that wait for them."""
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _warm_up(stage: Stage) -> None:
    """An audit of a made-up session as long as they get, so that none pays for one-time work."""
    tokens, columns = stage.cache.slot_tokens, stage.config.hidden_size
    hidden = torch.zeros((tokens, columns), dtype=stage.dtype)
    x = torch.zeros(tokens, dtype=torch.int32) if stage.first else hidden
    answered = min(LEAST_TOKENS, tokens)
    picked = torch.zeros(answered, dtype=torch.int64) if stage.last else None
    reexecute(stage, Passage(x, hidden, tokens - answered + 1, picked))


def _state(told: object) -> State | None:
    """A tree as a node tells it; nonsense becomes one that no rows fit."""
    try:
        return None if told is None else _STATE.validate_python(told)
    except ValidationError:
        return (-1, -1, [])
