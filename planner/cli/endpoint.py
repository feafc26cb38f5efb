"""``planner run --serve``: where a plan answers requests instead of replaying them."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli import console
from planner.cli.extra import needs
from planner.core.errors import RunError, UsageError
from planner.files.inventory import split_address

if TYPE_CHECKING:
    from planner.run.oversight import Verified
    from planner.run.setup import Setup


_REPLAYED = (
    *("requests", "concurrency", "prompts", "temperature", "lose", "hang"),
    *("gauge", "calibrate", "max_error", "html", "chrome_trace"),
)
"""Options that say something of a replay, which an endpoint does not make."""
_SERVED = ("queue", "tls_cert", "tls_key")


def only_of_a_replay(context: typer.Context) -> None:
    """Raises UsageError for an option that would be ignored, with --serve or without."""
    serving = context.params.get("serve") is not None
    given = [
        f"--{'no-' * (context.params[name] is False)}{name.replace('_', '-')}"
        for name in (_REPLAYED if serving else _SERVED)
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    if given and serving:
        raise UsageError(
            f"{', '.join(given)}: nothing is replayed with --serve",
            "leave it out, or leave out --serve",
        )
    if given:
        raise UsageError(f"{', '.join(given)}: nothing is served", "add --serve HOST:PORT")


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where an endpoint is and what it asks of clients, as the command line says it."""

    address: str
    api_key: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    queue: int | None = None

    @property
    def lacks(self) -> str:
        """What it needs to be reached from other hosts."""
        wanted = {"--api-key": self.api_key, "--tls-cert and --tls-key": self.certificate}
        return " and ".join(name for name, given in wanted.items() if given is None)

    def pair(self) -> tuple[Path, Path] | None:
        """The files of its certificate; raises UsageError for one that is none."""
        if self.certificate is None and self.key is None:
            return None
        if self.certificate is None or self.key is None:
            raise UsageError("--tls-cert and --tls-key go together", "give both, or neither")
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
        except OSError as error:  # SSLError is one
            reason = error.strerror or str(error)
            raise UsageError(
                f"--tls-cert {self.certificate}, --tls-key {self.key}: {reason}",
                "give a certificate chain and its key as PEM files",
            ) from None
        return self.certificate, self.key


def listen_at(address: str, *, lacks: str = "") -> socket.socket:
    """A socket that listens at ``HOST:PORT``.

    Raises UsageError where others could reach what ``lacks`` something for that, RunError for a
    busy port.
    """
    from planner.run.tls import is_loopback

    try:
        host, port = split_address(address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if lacks and not is_loopback(host):
        raise UsageError(
            f"others could reach {address}, and nothing would keep them out or from listening",
            f"use 127.0.0.1, or give {lacks}",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise RunError(f"cannot listen at {address}: {error.strerror}") from None


def end_on_sigterm() -> None:
    """Has the process end in order on SIGTERM too, as services are stopped."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def serve_at(entrance: Entrance, setup: Setup) -> None:
    """Serves until interrupted; says on stderr when requests are taken.

    At the end it says what receipts and audits came to, if there are any.
    """
    with needs("serve", "planner run --serve"):
        from planner.run import serving
    end_on_sigterm()
    pair = entrance.pair()
    with listen_at(entrance.address, lacks=entrance.lacks) as listener:
        host, port = listener.getsockname()[:2]
        name = setup.problem.model.id

        def ready() -> None:
            scheme = "http" if pair is None else "https"
            console.note(f"serving {name} at {scheme}://{host}:{port}/v1")

        def told(found: Verified) -> None:
            from planner.report.verified import verification_terms

            for line in verification_terms(found, None, 0.0).text():
                console.note(line)

        door = serving.Door(listener, entrance.api_key, name, entrance.queue, pair)
        serving.serve(setup, door, verified=told, ready=ready)
