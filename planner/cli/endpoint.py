"""``planner run --serve``: where a plan answers requests instead of replaying them."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from planner.cli import console
from planner.cli.extra import serving_needed
from planner.core.errors import RunError, UsageError
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.files.inventory import split_address

if TYPE_CHECKING:
    from planner.run.oversight import Oversight, Verified
    from planner.run.places import Place


_REPLAYED = (
    *("requests", "concurrency", "prompts", "temperature", "lose", "hang", "deterministic"),
    *("gauge", "calibrate", "max_error", "html", "chrome_trace"),
)
"""Options that say something of a replay, which an endpoint does not make."""
_SERVED = ("queue",)


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


def listen_at(address: str, *, protected: bool) -> socket.socket:
    """A socket that listens at ``HOST:PORT``.

    Raises UsageError where others could reach what is not ``protected``, RunError for a busy port.
    """
    from planner.run.tls import is_loopback

    try:
        host, port = split_address(address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not protected and not is_loopback(host):
        raise UsageError(
            f"others could reach {address}, and nothing would keep them out",
            "use 127.0.0.1, or give keys",
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


def serve_at(
    address: str,
    problem: Problem,
    plan: Plan,
    checkpoint: Path,
    api_key: str | None,
    queue: int | None,
    seed: int,
    threads: int | None = None,
    places: Mapping[str, Place] | None = None,
    draft: Path | None = None,
    oversight: Oversight | None = None,
    compiled: bool = False,
) -> None:
    """Serves until interrupted; says on stderr when requests are taken.

    With ``oversight`` it also says at the end what receipts and audits came to.
    """
    with serving_needed("planner run --serve"):
        from planner.run import serving
    end_on_sigterm()
    with listen_at(address, protected=api_key is not None) as listener:
        host, port = listener.getsockname()[:2]
        name = problem.model.id

        def ready() -> None:
            console.note(f"serving {name} at http://{host}:{port}/v1")

        def told(found: Verified) -> None:
            from planner.report.verified import verification_terms

            for line in verification_terms(found, None, 0.0).text():
                console.note(line)

        door = serving.Door(listener, api_key, name, queue)
        serving.serve(
            problem,
            plan,
            checkpoint,
            door,
            threads=threads,
            seed=seed,
            places=places,
            draft=draft,
            oversight=oversight,
            verified=told,
            compiled=compiled,
            ready=ready,
        )
