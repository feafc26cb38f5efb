"""Book: the records of a log sorted by what they say, each signed by whom it should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from planner.receipts.audit import commitment
from planner.receipts.record import (
    Absence,
    Audit,
    Commitment,
    Deployment,
    Exclusion,
    Receipt,
    Record,
    Reveal,
    Session,
    StageSeat,
    Statement,
    parse,
    signed_by,
)
from planner.receipts.tree import Tree

COORDINATOR = "coordinator"
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a log."""

    line: int
    """Line of the record, counted from 1; 0 where a record is missing."""
    node: str
    """Who has to answer for it."""
    session: str
    reason: str


@dataclass(slots=True)
class Book:
    """The records of a log that are well formed and signed by whom they should be."""

    deployment: Deployment
    lines: dict[str, int] = field(default_factory=dict)
    """Line of each record by its digest."""
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    sessions: dict[str, Session] = field(default_factory=dict)
    audits: dict[str, list[tuple[str, Audit]]] = field(default_factory=lambda: defaultdict(list))
    commitments: dict[int, Commitment] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)
    absences: set[str] = field(default_factory=set)
    """Receipts whose nodes were lost before their audit."""
    exclusions: list[tuple[str, Exclusion]] = field(default_factory=list)

    def seat(self, receipt: Receipt) -> StageSeat | None:
        """The stage a receipt speaks of."""
        for seat in self.deployment.stages:
            if (seat.pipeline, seat.stage) == (receipt.pipeline, receipt.stage):
                return seat
        return None

    def stages_of(self, pipeline: int) -> list[StageSeat]:
        """Stages of a pipeline in order."""
        found = [seat for seat in self.deployment.stages if seat.pipeline == pipeline]
        return sorted(found, key=lambda seat: seat.stage)


def read_book(lines: Iterable[bytes], manifest: str, findings: list[Finding]) -> Book | None:
    """Sorts the records into a book; notes every line that is no record of this deployment."""
    book: Book | None = None
    tree = Tree()
    for number, line in enumerate(lines, start=1):
        record = parse(line)
        if isinstance(record, str):
            findings.append(Finding(number, COORDINATOR, "", f"no record: {record}"))
        elif book is None:
            book = _first(record, number, manifest, findings)
            if book is None:
                return None
        else:
            wrong = _signer_is_wrong(book, record) or _place(book, record, number, tree)
            if wrong:
                told = record.statement
                findings.append(Finding(number, _who(told), _session(told), wrong))
        tree.append_line(line)
    if book is None:
        findings.append(Finding(0, COORDINATOR, "", "the log is empty"))
    return book


def _first(record: Record, number: int, manifest: str, findings: list[Finding]) -> Book | None:
    """The book that the first record opens."""
    told = record.statement
    wrong = ""
    if not isinstance(told, Deployment):
        wrong = "a log starts with its deployment"
    elif COORDINATOR not in told.keys or not signed_by(record, told.keys[COORDINATOR]):
        wrong = "the deployment is not signed with the coordinator's key"
    elif manifest and told.manifest != manifest:
        wrong = f"the log is of the manifest {told.manifest[:12]}, not of {manifest[:12]}"
    if wrong or not isinstance(told, Deployment):
        findings.append(Finding(number, COORDINATOR, "", wrong))
        return None
    return Book(told, {record.digest: number})


def _who(told: Statement) -> str:
    """Whose signature a statement needs."""
    if isinstance(told, Receipt):
        return told.node
    return told.verifier if isinstance(told, Audit) else COORDINATOR


def _session(told: Statement) -> str:
    return told.session if isinstance(told, Receipt | Session) else ""


def _signer_is_wrong(book: Book, record: Record) -> str:
    who = _who(record.statement)
    key = book.deployment.keys.get(who)
    if key is None:
        return f"{who} has no key in this deployment"
    return "" if signed_by(record, key) else f"not signed with the key of {who}"


def _place(book: Book, record: Record, number: int, before: Tree) -> str:
    """Puts a record where it belongs, or says why it belongs nowhere."""
    told, digest = record.statement, record.digest
    if digest in book.lines:
        return f"the record of line {book.lines[digest]} again"
    book.lines[digest] = number
    if isinstance(told, Deployment):
        return "a second deployment"
    if isinstance(told, Commitment):
        return _keep(book.commitments, told.epoch, told, "the epoch was committed to before")
    if isinstance(told, Reveal):
        return _reveal(book, told, before)
    if told.epoch not in book.commitments:
        return f"epoch {told.epoch} has no commitment before this line"
    if told.epoch in book.keys and isinstance(told, Receipt | Session):
        return f"the key of epoch {told.epoch} was known before this line"
    if isinstance(told, Receipt):
        book.receipts.append((digest, told))
    elif isinstance(told, Session):
        return _keep(book.sessions, told.session, told, "the session was told before")
    elif isinstance(told, Absence):
        book.absences.add(told.receipt)
    elif isinstance(told, Audit):
        book.audits[told.receipt].append((digest, told))
    else:
        book.exclusions.append((digest, told))
    return ""


def _keep(shelf: dict[K, V], key: K, value: V, taken: str) -> str:
    if key in shelf:
        return taken
    shelf[key] = value
    return ""


def _reveal(book: Book, told: Reveal, before: Tree) -> str:
    promised = book.commitments.get(told.epoch)
    key = bytes.fromhex(told.key)
    if promised is None:
        return f"epoch {told.epoch} was never committed to"
    if commitment(key) != promised.commitment:
        return f"the key of epoch {told.epoch} is not the one committed to"
    if (told.lines, told.root) != (before.count, before.root.hex()):
        return f"the {told.lines} lines before it are not those it was signed over"
    return _keep(book.keys, told.epoch, key, "the epoch was ended before")
