"""Serving: a plan that runs as an OpenAI-compatible endpoint until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.run.answering import Model
from planner.run.chat import chat_template
from planner.run.checkpoint import open_checkpoint
from planner.run.drafting import guesser, open_draft
from planner.run.driver import Session
from planner.run.execute import (
    as_sent,
    check,
    refuse_unverifiable,
    require_packages,
    settings_of,
    warm_up,
)
from planner.run.fleet import Fleet
from planner.run.gate import Gate, allow_descriptors
from planner.run.inspection import Inspection
from planner.run.losses import Care
from planner.run.oversight import Oversight, Verified
from planner.run.places import Place
from planner.run.service import OnEnd, OnToken, Service
from planner.run.telemetry import Telemetry
from planner.run.web import Web

_QUEUE_PER_SEAT = 4
_BACKLOG = 256


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
    problem: Problem,
    plan: Plan,
    checkpoint: Path,
    door: Door,
    *,
    threads: int | None = None,
    device: str = "cpu",
    seed: int = 0,
    places: Mapping[str, Place] | None = None,
    draft: Path | None = None,
    oversight: Oversight | None = None,
    verified: Callable[[Verified], None] = lambda _: None,
    compiled: bool = False,
    deterministic: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serves a plan until SIGINT or SIGTERM; ``ready`` is called once requests are taken.

    Without ``places`` the stages run on this host and the links are imitated. ``draft`` is the
    checkpoint of the plan's draft model, where it has one. ``oversight`` has stages sign what they
    do, and audits it; ``verified`` hears at the end what came of that. ``compiled`` lets stages
    compile their single rows. ``deterministic`` has a node that takes over compute in the original
    shapes what it lacks, where rounding depends on them. Raises RunError, InvalidFileError.
    """
    require_packages()
    opened = open_checkpoint(checkpoint)
    check(problem, plan, opened.config)
    drafting = open_draft(problem, draft)
    if oversight is not None:
        refuse_unverifiable(problem, compiled)
    inspections: list[Inspection] = []
    tokenizer, template = opened.tokenizer(), chat_template(checkpoint)
    settings = settings_of(problem, plan, checkpoint, threads, device, seed, places is None)
    settings = replace(settings, compiled=compiled)
    seats = sum(pipeline.max_num_seqs for pipeline in plan.pipelines)
    waiting = _QUEUE_PER_SEAT * seats if door.most_waiting is None else door.most_waiting
    stops = frozenset(opened.config.stop_ids)
    model = Model(door.name, tokenizer, template, stops, opened.config.vocab_size)
    with Fleet(problem.cluster, plan, settings, places) as fleet:
        warm_up(fleet, plan, tokenizer)
        guesses = guesser(problem, plan, fleet, drafting)

        def make(on_token: OnToken, on_end: OnEnd) -> Session:
            care = Care(problem, as_sent(plan, deterministic))
            session = Session(
                fleet, plan, tokenizer, on_token, on_end=on_end, care=care, guesser=guesses
            )
            if oversight is not None:
                inspections.append(Inspection(fleet, oversight, session))
            return session

        service = Service(make, seats=seats, slot_tokens=settings.slot_tokens, most_waiting=waiting)
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
