"""Service: a running session as something that many clients ask at once.

The session has a thread of its own; clients live in an event loop. Tokens go from the one to the
other, and a client that leaves takes its request out of the session.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from planner.core.errors import PlannerError, RunError
from planner.core.metrics import RequestRecord
from planner.run.driver import Session
from planner.run.prompts import Prompt

_LOG = logging.getLogger(__name__)
OnToken = Callable[[int, int], None]
OnEnd = Callable[[RequestRecord], None]
MakeSession = Callable[[OnToken, OnEnd], Session]


_PAUSE_S = 2.0
"""Before another session is made after one failed."""


class BusyError(RunError):
    """More requests than may wait; come back later."""


class UnavailableError(RunError):
    """The runtime behind the service has failed."""


class TooLongError(RunError):
    """A prompt and its answer do not fit a seat."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants to know."""

    ids: list[int]
    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class Answer:
    """An answer on its way; iterate over ``tokens``."""

    id: int
    arrived_s: float
    _queue: asyncio.Queue[int | RequestRecord | PlannerError] = field(default_factory=asyncio.Queue)
    ended: bool = False

    async def tokens(self) -> AsyncIterator[int]:
        """Token ids as they come; raises UnavailableError if there will be no more of them."""
        while True:
            said = await self._queue.get()
            if isinstance(said, int):
                yield said
                continue
            self.ended = True
            if isinstance(said, PlannerError):
                raise UnavailableError(said.message)
            if said.status != "completed":
                raise UnavailableError(said.reason)
            return

    def put(self, said: int | RequestRecord | PlannerError) -> None:
        """Takes what the session says, in the event loop."""
        self._queue.put_nowait(said)


class Service:
    """Requests of many clients, up to as many as have a seat or may wait for one."""

    def __init__(
        self,
        make: MakeSession,
        *,
        seats: int,
        slot_tokens: int,
        most_waiting: int,
        again: MakeSession | None = None,
    ) -> None:
        """``again`` makes a session in the place of one that failed; without it none is made."""
        self._again, self._stopped = again, threading.Event()
        self.seats, self.slot_tokens, self.most_waiting = seats, slot_tokens, most_waiting
        self.failure: PlannerError | None = None
        self._answers: dict[int, Answer] = {}
        self._ids = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session = make(self._told, self._ended)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def running(self) -> int:
        """Requests that have a seat, as far as is known here."""
        return min(len(self._answers), self.seats)

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return len(self._answers) - self.running

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to serve clients that live in ``loop``."""
        self._loop = loop
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        """Ends the session, whatever is under way."""
        self._stopped.set()
        self._session.stop()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def ask(self, asked: Asked) -> Answer:
        """Begins an answer; raises TooLongError, BusyError or UnavailableError."""
        self.expect_room()
        wanted = len(asked.ids) + asked.max_new_tokens
        if not asked.ids or wanted > self.slot_tokens:
            raise TooLongError(
                f"{len(asked.ids)} prompt and {asked.max_new_tokens} answer tokens; a request has "
                f"at least one and at most {self.slot_tokens} in all"
            )
        answer = Answer(next(self._ids), time.monotonic())
        self._answers[answer.id] = answer
        self._session.submit(
            Prompt(
                id=answer.id,
                arrival_s=0.0,
                content=asked.ids,
                max_new_tokens=asked.max_new_tokens,
                temperature=asked.temperature,
                top_p=asked.top_p,
                seed=asked.seed,
                stop_ids=asked.stop_ids,
            )
        )
        return answer

    def expect_room(self) -> None:
        """Raises BusyError or UnavailableError where nothing more can be asked now."""
        if self.failure is not None:
            raise UnavailableError(self.failure.message)
        if len(self._answers) >= self.seats + self.most_waiting:
            raise BusyError(f"{self.waiting} requests wait already")

    def leave(self, answer: Answer) -> None:
        """Takes an answer out of the session that nobody waits for any more."""
        if not answer.ended:
            self._session.cancel(answer.id)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                self._session.serve()
            except Exception as error:  # whatever it is, clients wait
                self._fail(error)
                self._revive()

    def _revive(self) -> None:
        """Makes another session, again and again until that succeeds or the service is stopped."""
        while self._again is not None and not self._stopped.wait(_PAUSE_S):
            try:
                self._session = self._again(self._told, self._ended)
            except Exception as error:
                self._fail(error)
            else:
                self.failure = None
                return
        self._stopped.wait()

    def _fail(self, error: Exception) -> None:
        """Tells everybody; what is no error of planner's own is a bug, and goes to the log."""
        if not isinstance(error, PlannerError):
            _LOG.error("a bug ended the session", exc_info=error)
            error = RunError(f"{type(error).__name__} in the session")
        self.failure = error
        self._in_loop(self._tell_all, error)

    def _tell_all(self, error: PlannerError) -> None:
        for answer in self._answers.values():
            answer.put(error)
        self._answers.clear()

    def _told(self, request: int, token: int) -> None:
        self._in_loop(self._hand_out, request, token)

    def _ended(self, record: RequestRecord) -> None:
        self._in_loop(self._finish, record)

    def _in_loop(self, what: Callable[..., None], *values: object) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *values)

    def _hand_out(self, request: int, token: int) -> None:
        answer = self._answers.get(request)
        if answer is not None:
            answer.put(token)

    def _finish(self, record: RequestRecord) -> None:
        answer = self._answers.pop(record.id, None)
        if answer is not None:
            answer.put(record)
