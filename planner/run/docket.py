"""Docket: the coordinator's side of verification: its log, the audits due, and what follows."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.audit import commitment, is_due
from planner.receipts.book import COORDINATOR, Finding
from planner.receipts.check import check_log
from planner.receipts.log import Log
from planner.receipts.record import (
    Absence,
    Audit,
    Commitment,
    Deployment,
    Exclusion,
    Receipt,
    Record,
    StageSeat,
    Statement,
    parse,
    signed_by,
)
from planner.receipts.record import Session as SessionRecord
from planner.receipts.tree import Witness

EPOCH = 0
"""A run is one epoch: its secret is drawn at the start and revealed at the end."""
_TOKEN = ("int32", (1,))


@dataclass(frozen=True, slots=True)
class Case:
    """An audit to be made by ``verifier``; ``digest`` is the receipt's."""

    receipt: Receipt
    digest: str
    verifier: str


@dataclass(slots=True)
class Tally:
    """What verification came to."""

    sampled: int = 0
    accepted: int = 0
    rejected: int = 0
    """Stage-sessions that two verifiers rejected."""
    undecided: int = 0
    unanswered: int = 0
    """Audits of nodes that were lost before they could show what they had signed."""
    accused: list[str] = field(default_factory=list)
    """Nodes that were excluded, or whose receipts do not fit."""
    unverified: list[str] = field(default_factory=list)
    """Sessions whose delivered tokens nobody can vouch for."""
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    """A session under way."""

    pipeline: int
    receipts: list[Record] = field(default_factory=list)


class Docket:
    """Keeps the log of a run and says which audits it needs and whom they accuse."""

    def __init__(
        self,
        log: Log,
        deployment: Deployment,
        key: Ed25519PrivateKey,
        auditors: Collection[str] | None = None,
    ) -> None:
        """``auditors`` are the holders that can be asked for audits: all of them by default."""
        self._log, self._key = log, key
        self._auditors = deployment.keys if auditors is None else auditors
        self._seats = {(seat.pipeline, seat.stage): seat for seat in deployment.stages}
        self._probability, self._keys = deployment.audit_probability, deployment.keys
        self._secret = secrets.token_bytes(32)
        self._running: dict[str, _Running] = {}
        self._made: dict[str, list[tuple[str, Audit]]] = defaultdict(list)
        self.tally = Tally()
        self._opening = [
            self._say(deployment),
            self._say(Commitment(epoch=EPOCH, commitment=commitment(self._secret))),
        ]

    def first_verifiers(self) -> dict[tuple[int, int], str]:
        """By pipeline and stage: who looks first at the work of its primary."""
        return {
            (seat.pipeline, seat.stage): self._verifiers(seat, seat.holders[0].node)[0]
            for seat in self._seats.values()
        }

    def open(self, session: str, pipeline: int) -> None:
        """Takes receipts of a session from now on."""
        self._running[session] = _Running(pipeline)

    def receive(self, line: bytes) -> None:
        """Takes a receipt from a node; anything else, or of no session under way, is dropped."""
        record = parse(line)
        if isinstance(record, str) or not isinstance(record.statement, Receipt):
            return
        running = self._running.get(record.statement.session)
        if running is not None:
            running.receipts.append(self._log.add(record))

    def end(
        self,
        session: str,
        prompt: Sequence[int],
        tokens: Sequence[int],
        outcome: str = "completed",
    ) -> list[Case]:
        """Ends a session whose last receipts are in; returns the audits that are due now.

        Whatever does not fit together accuses its node at once: that takes no audit.
        """
        running = self._running.pop(session)
        stages = sum(1 for seat in self._seats.values() if seat.pipeline == running.pipeline)
        sent = witness(session, 0, 0, [*prompt, *tokens[:-1]])
        got = witness(session, stages, len(prompt) - 1, tokens)
        values = {
            "epoch": EPOCH,
            "session": session,
            "pipeline": running.pipeline,
            "prompt_tokens": len(prompt),
            "count": sent.next_position,
            "root_in": sent.tree.root.hex(),
            "root_out": got.tree.root.hex(),
            "outcome": outcome,
        }
        ended = self._say(SessionRecord.model_validate(values))
        told = check_log(one.line for one in (*self._opening, *running.receipts, ended)).findings
        if told:
            self.tally.findings += told
            self._accuse(session, (finding.node for finding in told))
        last = {}
        for record in running.receipts:
            receipt = record.statement
            if isinstance(receipt, Receipt) and self._ended_by(receipt):
                last[receipt.node, receipt.stage] = (receipt, record.digest)
        due = [
            Case(receipt, digest, self._verifiers_of(receipt)[0])
            for receipt, digest in last.values()
            if is_due(self._secret, receipt, self._probability)
        ]
        self.tally.sampled += len(due)
        return due

    def abandon(self, session: str, prompt: Sequence[int]) -> None:
        """Ends a session that cannot be verified to its end."""
        self.end(session, prompt, (), "failed")
        if session not in self.tally.unverified:
            self.tally.unverified.append(session)

    def judge(self, case: Case, line: bytes) -> Case | str | None:
        """Takes a verifier's signed audit.

        Returns the same case for a second verifier where one has to look, the node that is to be
        excluded where two rejected its work, and None otherwise.
        """
        record = parse(line)
        audit = None if isinstance(record, str) else record.statement
        verifiers = self._verifiers_of(case.receipt)
        later = verifiers[verifiers.index(case.verifier) + 1 :]
        made = self._made[case.digest]
        fair = isinstance(audit, Audit) and audit.receipt == case.digest
        if not fair or not signed_by(record, self._keys[case.verifier]):  # type: ignore[arg-type]
            self._accuse(case.receipt.session, (case.verifier,))
        else:
            made.append((self._log.add(record).digest, audit))  # type: ignore[arg-type]
        verdicts = [one.verdict for _, one in made]
        if verdicts and verdicts[0] == "accept":
            self.tally.accepted += 1
            return None
        if len(made) < 2 and later:
            return Case(case.receipt, case.digest, later[0])
        return self._decided(case.receipt, made)

    def absent(self, case: Case) -> None:
        """Notes that a node was lost before it could show what it had signed."""
        self._say(Absence(epoch=EPOCH, receipt=case.digest))
        self.tally.unanswered += 1
        if case.receipt.session not in self.tally.unverified:
            self.tally.unverified.append(case.receipt.session)

    def close(self) -> Tally:
        """Reveals the secret and ends the log."""
        self._log.reveal(EPOCH, self._secret, self._key)
        self._log.close()
        return self.tally

    def _decided(self, receipt: Receipt, made: Sequence[tuple[str, Audit]]) -> str | None:
        rejects = tuple(digest for digest, audit in made if audit.verdict == "reject")
        if len(rejects) < 2:
            self.tally.undecided += 1
            return None
        self.tally.rejected += 1
        excluded = receipt.node in self.tally.accused
        self._accuse(receipt.session, (receipt.node,))
        if excluded:
            return None
        self._say(Exclusion(epoch=EPOCH, node=receipt.node, audits=rejects))
        return receipt.node

    def _ended_by(self, receipt: Receipt) -> bool:
        """Whether a receipt is a node's last word on a session: only those are audited."""
        return receipt.final and (receipt.pipeline, receipt.stage) in self._seats

    def _verifiers(self, seat: StageSeat, prover: str) -> list[str]:
        """Who may compute a node's work at a stage again, in order: never that node itself."""
        holders = [one.node for one in seat.holders if one.node in self._auditors]
        accused = [node for node in holders if node in self.tally.accused]
        others = [node for node in holders if node not in (prover, *accused)]
        return others or [node for node in accused if node != prover]

    def _verifiers_of(self, receipt: Receipt) -> list[str]:
        return self._verifiers(self._seats[receipt.pipeline, receipt.stage], receipt.node)

    def _accuse(self, session: str, nodes: Iterable[str]) -> None:
        named = [one for node in nodes for one in node.split(" or ") if one != COORDINATOR]
        self.tally.accused += [one for one in dict.fromkeys(named) if one not in self.tally.accused]
        if session not in self.tally.unverified:
            self.tally.unverified.append(session)

    def _say(self, statement: Statement) -> Record:
        return self._log.say(statement, self._key)


def witness(session: str, boundary: int, first: int, tokens: Iterable[int]) -> Witness:
    """What the coordinator saw at an end of a session: tokens from position ``first`` on."""
    seen = Witness(session, boundary, first)
    for place, token in enumerate(tokens, start=first):
        seen.see(place, *_TOKEN, token.to_bytes(4, "little"))
    return seen
