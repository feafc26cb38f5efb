"""Testimony: what a worker says under its node's signature, where its work is verified."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from planner.receipts.record import NumericClass
from planner.run.compute import NAMES, bytes_of
from planner.run.frames import Frame, Kind, PeerLostError, control, encode, send_all
from planner.run.notary import Notary, Office, Rows
from planner.run.transport import connect
from planner.run.wire import INT8

_ITEM_BYTES = {"int32": 4, "float32": 4, "bfloat16": 2, INT8: 1}


class Testimony:
    """The notary of a worker's stage, once the coordinator asks for one; else it does nothing.

    The main thread brings jobs, another one answers the coordinator.
    """

    __test__ = False  # no test, whatever its name

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self._notary: Notary | None = None
        self._lock = threading.Lock()
        self._spent_s = self._worked_s = 0.0

    @contextlib.contextmanager
    def of(self, frame: Frame, y: Tensor, result: Frame | None, worked_s: float) -> Iterator[None]:
        """Sends within it, then hashes and signs: the next stage computes meanwhile.

        ``worked_s`` is what computing the job took on the stage's own clock.
        """
        with self._lock:
            yield
            if self._notary is None:
                return
            began_s = time.thread_time()
            self._worked_s += 0.0 if frame.replay else worked_s
            hidden = Rows(NAMES[y.dtype], y.shape[1], bytes_of(y.to("cpu")), y.shape[0])
            for record in self._notary.attend(frame, hidden, result):
                self._tell({"receipt": record.line.decode()})
            self._spent_s += time.thread_time() - began_s

    def answer(self, message: dict[str, Any]) -> None:
        """Does what the coordinator asks; unknown messages change nothing."""
        if "witness" in message:
            self._swear(message["witness"])
        if self._notary is None:
            return
        if "close" in message:
            self._close(message["close"])
        elif "boundary" in message:
            self._boundary(message["boundary"])
        elif "adopt" in message:
            self._adopt(message["adopt"])
        elif "surrender" in message:
            self._surrender(message["surrender"])
        elif "forget" in message:
            with self._lock:
                self._notary.forget(message["forget"])

    def _swear(self, order: dict[str, Any]) -> None:
        office = Office(**order["office"] | {"numeric": NumericClass(**order["office"]["numeric"])})
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(order["key"]))
        with self._lock:
            self._notary = Notary(office, key)

    def _close(self, session: int) -> None:
        assert self._notary is not None
        with self._lock:
            last = self._notary.close(session)
        line = last.line.decode() if last else None
        spent = {"receipts_s": self._spent_s, "worked_s": self._worked_s}
        self._tell({"closed": session, "line": line} | spent)

    def _boundary(self, order: dict[str, Any]) -> None:
        """Says what came in or went out of some sessions, for a neighbour that took over."""
        assert self._notary is not None
        with self._lock:
            seen = {one: self._notary.seen(one, order["side"]) for one in order["sessions"]}
        self._tell({"seen": {str(one): state for one, state in seen.items() if state}})

    def _adopt(self, order: dict[str, Any]) -> None:
        assert self._notary is not None
        with self._lock:
            for session, known in order.items():
                self._notary.adopt(int(session), *known)

    def _surrender(self, order: dict[str, Any]) -> None:
        """Hands a verifier the bytes of a session."""
        assert self._notary is not None
        with self._lock:
            try:
                evidence = self._notary.evidence(order["session"])
            except KeyError:
                return
        parts = (
            (evidence.entered, evidence.entered_dtype),
            (evidence.hidden, evidence.hidden_dtype),
        )
        with contextlib.suppress(PeerLostError):
            sock = connect(order["port"], order["secret"], order["name"])
            with sock:
                before = {
                    "in": evidence.before_in,
                    "out": evidence.before_out,
                    "wire": evidence.sent_dtype,
                }
                send_all(sock, encode(control(before)))
                for payload, dtype in parts:
                    items = len(payload) // _ITEM_BYTES[dtype]
                    send_all(sock, encode(Frame(Kind.CHUNK, 0, (), dtype, 1, items, payload)))
