"""Serving: a plan that runs as an OpenAI-compatible endpoint until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from planner.run.answering import Model
from planner.run.chat import chat_template
from planner.run.driver import Session
from planner.run.inspection import Inspection
from planner.run.oversight import Verified
from planner.run.service import OnEnd, OnToken, Service
from planner.run.setup import Setup, opened
from planner.run.telemetry import Telemetry
from planner.run.web import Web

_QUEUE_PER_SEAT = 4
_BACKLOG = 256
MOST_CONNECTIONS = 1024
_DESCRIPTORS = 4096
"""For connections, workers and files, where the system gives so many."""


@dataclass(frozen=True, slots=True)
class Door:
    """How an endpoint is reached."""

    listener: socket.socket
    api_key: str | None
    name: str
    """Name of the model."""
    most_waiting: int | None = None
    """Requests that may wait for a seat; four for each seat where nobody says."""
    certificate: tuple[Path, Path] | None = None
    """Files of a certificate chain and its key; without them nothing is encrypted."""


def serve(
    setup: Setup,
    door: Door,
    *,
    verified: Callable[[Verified], None] = lambda _: None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serves a plan until SIGINT or SIGTERM; ``ready`` is called once requests are taken.

    ``verified`` hears at the end what came of receipts and audits. Where a session fails, for want
    of a node for example, another one is made as soon as that is possible; not with receipts.
    Raises RunError, InvalidFileError.
    """
    made, oversight = opened(setup), setup.oversight
    tokenizer, known = made.tokenizer, made.checkpoint.config
    template, stops = chat_template(setup.checkpoint), frozenset(known.stop_ids)
    inspections: list[Inspection] = []
    seats = sum(pipeline.max_num_seqs for pipeline in setup.plan.pipelines)
    waiting = _QUEUE_PER_SEAT * seats if door.most_waiting is None else door.most_waiting
    model = Model(door.name, tokenizer, template, stops, known.vocab_size)
    with contextlib.ExitStack() as running:

        def make(on_token: OnToken, on_end: OnEnd) -> Session:
            running.close()  # workers of a session that failed
            fleet = running.enter_context(made.fleet())
            care, guesses = setup.care(), made.guesser(fleet)
            session = Session(fleet, tokenizer, on_token, on_end=on_end, care=care, guesser=guesses)
            if oversight is not None:
                inspections.append(Inspection(fleet, oversight, session))
            return session

        service = Service(
            make,
            seats=seats,
            slot_tokens=setup.settings.slot_tokens,
            most_waiting=waiting,
            again=make if oversight is None else None,  # a log is that of one session
        )
        web = Web(service, model, door.api_key, Telemetry(door.name, seats))
        certificate, key = door.certificate or (None, None)
        allow_descriptors()
        config = uvicorn.Config(
            web.app(ready),
            http=Gate,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_level="warning",
            access_log=False,
            backlog=_BACKLOG,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        try:
            uvicorn.Server(config).run([door.listener])
        finally:  # a signal that ended it is raised anew
            for inspection in inspections:
                verified(inspection.finish())


class Gate(H11Protocol):
    """HTTP with an end to the connections that are open, and to those that ask for nothing.

    A head of a request that trickles in is no request. Until one is whole a client has shown no
    key, so nobody else would keep strangers from taking all there is.
    """

    request_s = 30.0
    """How long the head of a request may take."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets a client in, or not."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets a client."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        super().on_response_complete()
        self._expect_request()

    def _expect_request(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.request_s, self._hurry, self.cycle)

    def _hurry(self, latest: object) -> None:
        if self.cycle is latest and not self.transport.is_closing():
            self.transport.close()


def allow_descriptors() -> None:
    """Has the system give this process as many descriptors as it needs, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
