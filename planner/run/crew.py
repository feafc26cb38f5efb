"""Worker: the coordinator's side of a worker process, and the conversation with it."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.core.errors import FileProblem, InvalidFileError, RunError
from planner.core.plan import Stage
from planner.run.answers import parse_answer
from planner.run.frames import (
    CONTROL_LIMIT_BYTES,
    FrameError,
    PeerLostError,
    control,
    encode,
    read_frame,
    send_all,
    send_some,
)
from planner.run.places import Place, Process
from planner.run.ready import ready
from planner.run.steps import Step

_MOST_STEPS = 2**18
"""Kept of what a worker did, the latest ones: a service may run for months."""
START_S = 300.0
"""How long a worker may take to start and load."""

_MESSAGE_S = 10.0
"""How long a message may take to come once it has begun."""
_SIGNS = 4
"""Signs of life that are asked for before silence is too long."""

Post = tuple[int, int]
"""Pipeline and stage."""


@dataclass(slots=True, eq=False)
class Worker:
    """One process on a node, and what it holds."""

    node: str
    place: Place
    process: Process
    post: Post | None = None
    """The stage whose weights it has."""
    stage: Stage | None = None
    port: int = 0
    weight_bytes: int = 0
    cache_bytes: int = 0
    kernels: dict[str, Any] = field(default_factory=dict)
    load_s: float = 0.0
    """What it took to hold its stage, the choice of kernels included."""
    lost: bool = False
    heard_s: float = 0.0
    """When it last said something."""
    busy_s: float = 0.0
    """How long it has been at its job, as it said then."""
    broken: int = 0
    """Latest epoch of which it said that a connection broke."""
    steps: deque[tuple[Post, Step]] = field(default_factory=lambda: deque(maxlen=_MOST_STEPS))
    """What it said that it did, and at which stage, on the clock of its host."""
    ahead_s: float = 0.0
    """How far that clock is ahead of this one's, by the quickest sign of life so far."""
    _asked_s: float = -math.inf
    _quickest_s: float = math.inf
    _writing: threading.Lock = field(default_factory=threading.Lock)
    overheard: Callable[[Worker, dict[str, Any]], None] | None = None
    """Hears of everything that it says, whoever waits for it."""

    @property
    def control(self) -> socket.socket:
        """Where its orders go and its answers come from."""
        return self.process.control

    @property
    def title(self) -> str:
        """What to call it."""
        if self.stage is None:
            return self.node
        return f"{self.node} (layers {self.stage.start} to {self.stage.stop - 1})"

    def ask(self, message: dict[str, Any], answer: str, timeout_s: float) -> dict[str, Any]:
        """What it answers; raises as ``hear`` does."""
        self.tell(message)
        return self.hear(answer, timeout_s)

    def tell(self, message: dict[str, Any]) -> None:
        """Sends it a message."""
        with self._writing, contextlib.suppress(PeerLostError):  # hearing it will show why it went
            send_all(self.control, encode(control(message)))

    def hear(
        self,
        key: str | Sequence[str],
        timeout_s: float = START_S,
        silence_s: float | None = None,
    ) -> dict[str, Any]:
        """Its next message that has a key; what else it says is noted.

        With ``silence_s`` it is asked for signs of life meanwhile, and counts as lost where it
        gives none for so long. Raises WorkerLostError, or InvalidFileError where it reports one.
        """
        keys = (key,) if isinstance(key, str) else key
        patience_s = timeout_s if silence_s is None else silence_s
        alive_s = time.monotonic()
        until_s = alive_s + timeout_s
        while True:
            now_s = time.monotonic()
            left_s = min(until_s, alive_s + patience_s) - now_s
            if left_s <= 0:
                raise WorkerLostError(self, f"{self.title} was silent for {now_s - alive_s:.3g} s")
            if not ready([self.control], min(left_s, patience_s / _SIGNS)):
                self.beat()
                continue
            message, alive_s = self.listen(), time.monotonic()
            if any(name in message for name in keys):
                return message

    def listen(self) -> dict[str, Any]:
        """The message that it has begun to send. Raises as ``hear`` does."""
        try:
            begun = _Begun(self.control, time.monotonic() + _MESSAGE_S)
            message = parse_answer(read_frame(begun, CONTROL_LIMIT_BYTES))
        except PeerLostError:
            raise self.death() from None
        except FrameError as nonsense:
            raise WorkerLostError(self, f"{self.title}: {nonsense.message}") from None
        self.heard_s = time.monotonic()
        self.broken = message.get("broken", self.broken)
        if "beat" in message:
            self.busy_s = message["busy_s"]
            self._compare_clocks(message["clock_s"])
        did = message.get("steps", message.get("did", ()))
        if self.post is not None:
            self.steps.extend((self.post, Step(*step)) for step in did)
        if "error" in message:
            error = message["error"]
            if error["problems"]:
                problems = [FileProblem(*p) for p in error["problems"]]
                raise InvalidFileError(problems, error["hint"])
            said = f"the worker of {self.title} failed: {error['message']}"
            raise WorkerLostError(self, said, error["hint"])
        if self.overheard is not None:
            self.overheard(self, message)
        return message

    def _compare_clocks(self, theirs_s: float) -> None:
        took_s = self.heard_s - self._asked_s
        if took_s < self._quickest_s:
            self._quickest_s, self.ahead_s = took_s, theirs_s - self._asked_s - took_s / 2

    def beat(self) -> None:
        """Asks it for a sign of life, without waiting."""
        self._asked_s = time.monotonic()
        if self._writing.acquire(blocking=False):  # else it is being told something
            try:
                send_some(self.control, encode(control({"beat": 1})))
            except PeerLostError:
                pass
            finally:
                self._writing.release()

    def death(self) -> WorkerLostError:
        """That it is gone, and why as far as anybody knows."""
        self.process.ended(patience_s=1.0)
        why = self.process.last_words()
        said = f"the worker of {self.title} is gone{', ' if why else ''}{why}"
        return WorkerLostError(self, said)


class WorkerLostError(RunError):
    """A worker is gone, broken or silent; ``worker`` says which."""

    def __init__(self, worker: Worker, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.worker = worker


class _Begun:
    """A connection on which a message has begun, whose end has to come by a moment."""

    def __init__(self, sock: socket.socket, until_s: float) -> None:
        self._sock, self._until_s = sock, until_s

    def recv_into(self, buffer: memoryview, /) -> int:
        """As a socket's; raises TimeoutError. Others may send on the socket meanwhile."""
        if not ready([self._sock], max(0.0, self._until_s - time.monotonic())):
            raise TimeoutError("it took too long")
        return self._sock.recv_into(buffer)
