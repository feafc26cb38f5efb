"""Bench: audits in a worker process: fetches what a node signed, computes it again, signs."""

from __future__ import annotations

import contextlib
import time
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
from planner.run.docket import Case
from planner.run.frames import FrameError, PeerLostError, Seat, read_control, read_frame
from planner.run.model import CacheShape, Stage
from planner.run.notary import Evidence
from planner.run.transport import Listener

_EVIDENCE_S = 30.0
_ITEM_BYTES = 4
_BEFORE_BYTES = 2**16
_STATE: TypeAdapter[State] = TypeAdapter(State)


class Bench:
    """Stages that a verifier holds, loaded when they are first asked for."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._stages: dict[tuple[int, int, str], Stage] = {}

    def audit(self, order: dict[str, Any]) -> None:
        """Makes one audit and tells the signed result; evidence that does not come is none."""
        torch.set_num_threads(order["threads"])
        case = Case(Receipt.model_validate(order["receipt"]), order["digest"], order["verifier"])
        seat = StageSeat.model_validate(order["seat"])
        stage = self._stage(order, seat)
        evidence = self._fetch(order, case.receipt.count, stage)
        answer = Answer(order["prompt_tokens"], order["tokens"], Seat(*order["picking"]))
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(order["key"]))
        began_s = time.perf_counter()
        record = audit(stage, case, evidence, answer, seat, key)
        spent_s = time.perf_counter() - began_s
        self._tell(
            {
                "audited": case.digest,
                "line": record.line.decode(),
                "audit_s": spent_s,
                "shown": bool(evidence.entered),
            }
        )

    def _stage(self, order: dict[str, Any], seat: StageSeat) -> Stage:
        held = (seat.start, seat.stop, order["quant"])
        if held not in self._stages:
            self._stages[held] = Stage(
                open_checkpoint(Path(order["checkpoint"]), range(seat.start, seat.stop)),
                *held,
                CacheShape(1, order["slot_tokens"]),
                device=order["device"],
            )
        return self._stages[held]

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
        return Evidence(*parts, _state(before.get("in")), _state(before.get("out")))


def _state(told: object) -> State | None:
    """A tree as a node tells it; nonsense becomes one that no rows fit."""
    try:
        return None if told is None else _STATE.validate_python(told)
    except ValidationError:
        return (-1, -1, [])
