"""Inspection: verification of a run, from the coordinator: keys, receipts, audits, exclusions.

Every node that may hold a stage has a key and signs what it saw. When a session ends its stages
sign the end; audits that are due are made by verifiers, one after the other, and a thread of its
own sees to that. Who is rejected by two verifiers is excluded, as if it had been lost.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.core.errors import FileProblem, InvalidFileError, PlannerError
from planner.receipts.book import COORDINATOR
from planner.receipts.log import NAME, Log
from planner.receipts.record import Deployment, public_key
from planner.receipts.tree import State
from planner.run.crew import Post, Worker
from planner.run.docket import Case, Docket, Tally, witness
from planner.run.fleet import Fleet
from planner.run.oversight import Oversight, Verified, seats_of
from planner.run.panel import Panel, Question
from planner.run.prompts import Prompt, Running
from planner.run.ready import ready

if TYPE_CHECKING:
    from planner.run.driver import Session

_BOUNDARY_S, _CLOSE_S = 10.0, 10.0


@dataclass(slots=True)
class _Session:
    """A session that runs or waits for its last receipts."""

    sequence: Running
    pipeline: int
    prompt: Prompt
    prompt_ids: list[int]
    """All that went into the pipeline before its first token came out."""
    given: int
    """Tokens that it had been given before it came to this pipeline."""
    completed: bool = False
    waiting: set[Worker] = field(default_factory=set)
    """Who has yet to sign the end."""

    @property
    def tokens(self) -> list[int]:
        """Tokens that came out of this pipeline."""
        return self.sequence.output_ids[self.given :]


class Inspection:
    """Keeps the docket of a fleet: hears of sequences from the traffic, and all messages."""

    def __init__(self, fleet: Fleet, oversight: Oversight, session: Session) -> None:
        """Verifies what ``session`` brings from now on; who is rejected is lost to it."""
        assert session.failover is not None
        self._fleet, self._prompt = fleet, session.desk.prompt
        self._exclude = session.failover.ban
        self._run = secrets.token_hex(8)
        self._layers = fleet.plan.pipelines[0].stages[-1].stop
        self._manifest = oversight.manifest
        self._keys: dict[str, Ed25519PrivateKey] = {}
        self._seats = seats_of(fleet.plan, oversight, fleet.settings.checkpoint)
        self._verified = Verified(Tally(), oversight.folder / NAME)
        try:
            log = Log(oversight.folder)
        except OSError as error:
            problem = FileProblem(str(self._verified.log), error.strerror or str(error))
            raise InvalidFileError([problem], "give another folder with --receipts") from None
        deployment = Deployment(
            manifest=oversight.manifest,
            keys={name: self._public(name) for name in self._names()},
            stages=tuple(self._seats.values()),
            audit_probability=oversight.audit_share,
        )
        here = [name for name in deployment.keys if fleet.place(name).signer is None]
        self._docket = Docket(log, deployment, self._key(COORDINATOR), here)
        self._lock = threading.RLock()
        self._open: dict[int, _Session] = {}
        self._closing: dict[str, _Session] = {}
        self._spent_s: dict[Worker, tuple[float, float]] = {}
        """By worker: what receipts took, and what the stage itself did."""
        self._panel = Panel(fleet, self._key)
        self._ended: queue.SimpleQueue[_Session | None] = queue.SimpleQueue()
        self._auditing = threading.Thread(target=self._audit_on_thread, daemon=True)
        self._fault: Exception | None = None
        """What ended the audits early."""
        session.traffic.watcher = self
        fleet.inspection = self
        for worker in fleet.workers:
            worker.overheard = self.hear
            self.swear(worker)
        if oversight.audit_share:
            self._panel.convene(self._docket.first_verifiers())
        self._auditing.start()

    def swear(self, worker: Worker) -> None:
        """Has a worker sign for the stage that it holds."""
        if worker.post is None:
            return
        seat = self._seats[worker.post]
        office = {
            "run": self._run,
            "manifest": self._manifest,
            "node": worker.node,
            "pipeline": seat.pipeline,
            "stage": seat.stage,
            "start": seat.start,
            "stop": seat.stop,
            "weights": seat.weights,
            "numeric": seat.holders[0].numeric.model_dump(),
            "last": seat.stop == self._layers,
        }
        key = self._key(worker.node).private_bytes_raw().hex()
        worker.tell({"witness": {"office": office, "key": key}})

    def opened(self, sequence: Running) -> None:
        """Notes a sequence that enters a pipeline, with what it was answered elsewhere before."""
        with self._lock:
            tokens = [*sequence.prompt_ids, *sequence.output_ids]
            given = len(sequence.output_ids)
            prompt = self._prompt(sequence.id)
            session = _Session(sequence, sequence.pipeline, prompt, tokens, given)
            self._open[sequence.id] = session
            self._docket.open(self._name(session), session.pipeline)

    def ended(self, sequence: Running, completed: bool) -> None:
        """Has the stages sign the end of a session."""
        with self._lock:
            session = self._open.pop(sequence.id, None)
            if session is None:
                return
            session.completed = completed
            workers = self._fleet.stages_of(session.pipeline) if completed else []
            session.waiting = {worker for worker in workers if not worker.lost}
            self._closing[self._name(session)] = session
            for worker in workers:
                worker.tell({"close": sequence.id})
            self._ready(session)

    def hear(self, worker: Worker, message: dict[str, Any]) -> None:
        """Takes what a worker says about its receipts; any thread may bring it."""
        if "receipt" in message:
            with self._lock:
                self._docket.receive(message["receipt"].encode())
        elif "closed" in message and worker.post is not None:
            with self._lock:
                if message["line"]:
                    self._docket.receive(message["line"].encode())
                self._spent_s[worker] = message["receipts_s"], message["worked_s"]
                session = self._closing.get(f"{self._run}-{worker.post[0]}-{message['closed']}")
                if session is not None:
                    session.waiting.discard(worker)
                    self._ready(session)

    def lost(self, worker: Worker) -> None:
        """Waits for nothing more from a worker."""
        with self._lock:
            for session in list(self._closing.values()):
                session.waiting.discard(worker)
                self._ready(session)

    def hand_over(self, post: Post, live: Sequence[tuple[int, int, int]]) -> None:
        """Tells who took a stage over what its neighbours saw of the work before.

        Where they cannot say, because two that follow each other were lost at once, sessions are
        no longer verified. Raises WorkerLostError.
        """
        with self._lock:
            known = {one: self._open[one] for _, one, _ in live if one in self._open}
        received, sent = (self._seen(post, known, side) for side in ("out", "in"))
        adopted = {
            number: (len(session.prompt_ids), received[str(number)], sent[str(number)])
            for number, session in known.items()
            if str(number) in received and str(number) in sent
        }
        self._fleet.holders[post].tell({"adopt": adopted})
        with self._lock:
            for number, session in known.items():
                if number not in adopted and self._open.pop(number, None) is not None:
                    self._docket.abandon(self._name(session), session.prompt_ids)

    def _seen(self, post: Post, known: Mapping[int, _Session], side: str) -> dict[str, State]:
        """By session: what went ``out`` of the stage before, or came ``in`` to the one after."""
        pipeline, stage = post
        last = self._seats[post].stop == self._layers
        if (stage == 0 and side == "out") or (last and side == "in"):
            return {str(number): self._end_seen(one, post, side) for number, one in known.items()}
        neighbour = self._fleet.holders[pipeline, stage + (1 if side == "in" else -1)]
        order = {"boundary": {"side": side, "sessions": list(known)}}
        return dict(neighbour.ask(order, "seen", _BOUNDARY_S)["seen"])

    def _end_seen(self, session: _Session, post: Post, side: str) -> State:
        """The same of the coordinator, at either end of a pipeline."""
        name, prompt, tokens = self._name(session), session.prompt_ids, session.tokens
        if side == "out":
            return witness(name, 0, 0, [*prompt, *tokens]).state
        return witness(name, post[1] + 1, len(prompt) - 1, tokens).state

    def finish(self) -> Verified:
        """Waits for the last receipts and audits, and ends the log."""
        until_s = time.monotonic() + _CLOSE_S
        while self._closing and time.monotonic() < until_s:
            self._listen()
        with self._lock:
            for session in [*self._closing.values(), *self._open.values()]:
                session.waiting.clear()
                self._ready(session)
        self._ended.put(None)
        while self._auditing.is_alive():
            self._listen()
            self._auditing.join(0.01)
        if self._fault is not None:
            raise self._fault
        self._fleet.inspection = None
        self._verified.tally = self._docket.close()
        self._verified.receipts_s = sum(signing_s for signing_s, _ in self._spent_s.values())
        self._verified.worked_s = sum(worked_s for _, worked_s in self._spent_s.values())
        return self._verified

    def _listen(self) -> None:
        """Hears what workers have to say while no session does."""
        for worker in list(self._fleet.workers):
            with contextlib.suppress(PlannerError):
                while ready([worker.control]):
                    worker.listen()
        time.sleep(0.002)

    def _ready(self, session: _Session) -> None:
        """Hands a session over to be audited once all of its stages have signed or are lost."""
        if not session.waiting and self._closing.pop(self._name(session), None) is not None:
            self._ended.put(session)

    def _audit_on_thread(self) -> None:
        try:
            self._audit_all()
        except Exception as error:
            self._fault = error

    def _audit_all(self) -> None:
        """Ends one session after the other and makes the audits that are due."""
        while (session := self._ended.get()) is not None:
            outcome = "completed" if session.completed else "failed"
            with self._lock:
                due = self._docket.end(
                    self._name(session), session.prompt_ids, session.tokens, outcome
                )
            for case in due:
                following: Case | None = case
                while following is not None:
                    following = self._audit(following, session)
            for worker in self._fleet.stages_of(session.pipeline):
                if not worker.lost:
                    worker.tell({"forget": session.sequence.id})
        self._panel.dismiss()

    def _audit(self, case: Case, session: _Session) -> Case | None:
        """Has one verifier look; who looks next, if somebody has to."""
        post = case.receipt.pipeline, case.receipt.stage
        prover = self._fleet.holders[post]
        if prover.node != case.receipt.node or prover.lost:
            self._absent(case)
            return None
        question = Question(
            session.sequence.id, session.prompt, len(session.prompt_ids), session.tokens
        )
        try:
            said = self._panel.ask(case, self._seats[post], question, prover)
        except PlannerError:
            return None
        if prover.lost and not said["shown"]:
            self._absent(case)
            return None
        self._verified.audit_s += said["audit_s"]
        self._verified.audited[self._fleet.stage(post).node] += 1
        with self._lock:
            after = self._docket.judge(case, said["line"].encode())
        if isinstance(after, str):
            self._exclude(after)
            return None
        return after

    def _absent(self, case: Case) -> None:
        with self._lock:
            self._docket.absent(case)

    def _names(self) -> list[str]:
        held = [one.node for seat in self._seats.values() for one in seat.holders]
        return list(dict.fromkeys((COORDINATOR, *held)))

    def _public(self, name: str) -> str:
        """The node's own key where it has one, else one made for this run."""
        signer = self._fleet.place(name).signer
        return signer or public_key(self._key(name))

    def _key(self, name: str) -> Ed25519PrivateKey:
        return self._keys.setdefault(name, Ed25519PrivateKey.generate())

    def _name(self, session: _Session) -> str:
        return f"{self._run}-{session.pipeline}-{session.sequence.id}"
