"""Gate: how many clients an endpoint lets in at once, and how long one may take to ask."""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 1024
_DESCRIPTORS = 4096
"""For connections, workers and files, where the system gives so many."""


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
