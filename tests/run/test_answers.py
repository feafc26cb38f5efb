from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from planner.run.crew import Worker, WorkerLostError
from planner.run.frames import control, encode, send_all
from planner.run.places import Here

STEP = [1, "decode", 2, 2, 30, 0.0, 1.0, 2.0]
BEAT = {"beat": 1, "busy_s": 0.0, "clock_s": 5.0, "did": [STEP]}


def heard(message: dict[str, Any]) -> dict[str, Any]:
    """What a coordinator takes from a worker that says ``message``."""
    ours, theirs = socket.socketpair()
    process: Any = SimpleNamespace(control=ours, ended=lambda patience_s: True)
    with ours, theirs:
        send_all(theirs, encode(control(message)))
        return Worker("w0", Here(), process, post=(0, 0)).listen()


@pytest.mark.parametrize(
    "message",
    [
        BEAT,
        {"connected": 3, "failure": ""},
        {"broken": 3},
        {"receipt": "a line"},
        {"closed": 1, "line": None, "receipts_s": 0.1, "worked_s": 1},
        {"seen": {"1": [4, 4, ["ab" * 32]]}},
    ],
    ids=str,
)
def test_answers_are_taken_as_they_come(message: dict[str, Any]) -> None:
    assert heard(message) == message


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"beat": 1},
        BEAT | {"busy_s": "long"},
        BEAT | {"busy_s": float("nan")},
        BEAT | {"more": 1},
        BEAT | {"did": [STEP[:-1]]},
        BEAT | {"did": [["x", *STEP[1:]]]},
        {"connected": 3},
        {"port": 80_000, "load_s": 1.0, "weight_bytes": 1, "cache_bytes": 1, "kernels": {}},
        {"error": "no"},
        {"error": {"message": "no", "hint": "", "problems": [["file"]]}},
        {"closed": [], "line": None, "receipts_s": 0.1, "worked_s": 1.0},
        {"whatever": 1},
    ],
    ids=str,
)
def test_who_says_anything_else_is_lost_and_nothing_worse_happens(message: dict[str, Any]) -> None:
    with pytest.raises(WorkerLostError, match="w0"):
        heard(message)
