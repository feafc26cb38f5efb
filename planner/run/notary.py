"""Notary: what a stage keeps and signs of the sessions that go through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.record import EVERY_TOKENS, NumericClass, Receipt, Record, sign
from planner.receipts.tree import Payload, Witness


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one sequence as they are on the wire: ``count`` of ``columns`` items."""

    dtype: str
    columns: int
    payload: Payload
    count: int

    def each(self) -> Iterator[memoryview]:
        """The bytes of each row."""
        whole = memoryview(self.payload).cast("B")
        size_bytes = len(whole) // self.count
        for row in range(self.count):
            yield whole[row * size_bytes : (row + 1) * size_bytes]


@dataclass(frozen=True, slots=True)
class Office:
    """What all receipts of a stage have in common."""

    manifest: str
    """SHA-256 of the manifest file (hex)."""
    node: str
    pipeline: int
    stage: int
    start: int
    stop: int
    weights: str
    """Digest of the weights that the plan wants there (hex)."""
    numeric: NumericClass
    last: bool
    """Whether tokens leave it, rather than hidden states."""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a verifier needs of a session: the bytes that entered a stage and left its layers."""

    entered: bytes
    entered_dtype: str
    hidden: bytes
    hidden_dtype: str


@dataclass(slots=True)
class _Case:
    """One session at this stage."""

    received: Witness
    first: int = 0
    """First position it answers for."""
    sent: Witness | None = None
    hidden: Witness | None = None
    entered_rows: list[bytes] = field(default_factory=list)
    hidden_rows: list[bytes] = field(default_factory=list)
    entered_dtype: str = ""
    hidden_dtype: str = ""
    signed: int = 0
    """Positions of its latest receipt."""
    previous: str | None = None
    """Digest of its latest receipt."""


class Notary:
    """Hashes what enters and leaves a stage, signs it, and keeps it until it may be forgotten."""

    def __init__(self, office: Office, key: Ed25519PrivateKey) -> None:
        self._office, self._key = office, key
        self._cases: dict[str, _Case] = {}

    def see(
        self,
        session: str,
        prompt_tokens: int,
        position: int,
        entered: Rows,
        hidden: Rows,
        left: Rows,
    ) -> Record | None:
        """Takes the rows of one sequence in one step, from ``position`` on.

        ``hidden`` are the hidden states behind the last of its layers, ``left`` what it sent on:
        the same rows, or on the last stage the tokens that were picked. Rows that were seen
        before are the same step once more and change nothing. Returns the receipt for what was
        seen before, if one was due: after the prompt and after every 32 positions more. It is
        signed one step late, because the last one of a session has to say that it is the last.
        """
        case = self._cases.setdefault(session, self._open(session))
        signed = self._due(session, case, prompt_tokens, position)
        self._keep(case, position, entered, hidden)
        first = position + entered.count - left.count
        if case.sent is None and left.count:
            case.sent = Witness(session, self._office.stage + 1, first)
        for row, z in enumerate(left.each()):
            assert case.sent is not None
            case.sent.see(first + row, left.dtype, (left.columns,), z)
        return signed

    def see_again(
        self, session: str, position: int, entered: Rows, hidden: Rows, sent: Witness
    ) -> None:
        """Takes rows that another node had served before it was lost, up to where that was.

        ``sent`` is what the next stage saw of that node's work: this one answers for what comes
        after it.
        """
        case = self._cases.setdefault(session, self._open(session))
        self._keep(case, position, entered, hidden)
        case.first = case.received.next_position
        case.sent = sent

    def received(self, session: str) -> Witness:
        """What it saw coming in; raises KeyError for a session it does not know."""
        return self._cases[session].received

    def close(self, session: str) -> Record | None:
        """The last receipt of a session; None if it saw nothing of it."""
        case = self._cases.get(session)
        return None if case is None else self._sign(session, case, final=True)

    def evidence(self, session: str) -> Evidence:
        """What it kept of a session; raises KeyError if that is forgotten."""
        case = self._cases[session]
        return Evidence(
            b"".join(case.entered_rows),
            case.entered_dtype,
            b"".join(case.hidden_rows),
            case.hidden_dtype,
        )

    def forget(self, session: str) -> None:
        """Drops what it kept of a session."""
        self._cases.pop(session, None)

    def _open(self, session: str) -> _Case:
        stage = self._office.stage
        hidden = Witness(session, stage + 1) if self._office.last else None
        return _Case(Witness(session, stage), hidden=hidden)

    def _keep(self, case: _Case, position: int, entered: Rows, hidden: Rows) -> None:
        for row, (x, y) in enumerate(zip(entered.each(), hidden.each(), strict=True)):
            if case.received.see(position + row, entered.dtype, (entered.columns,), x):
                case.entered_rows.append(bytes(x))  # buffers are used again
                case.hidden_rows.append(bytes(y))
                if case.hidden is not None:
                    case.hidden.see(position + row, hidden.dtype, (hidden.columns,), y)
        case.entered_dtype, case.hidden_dtype = entered.dtype, hidden.dtype

    def _due(self, session: str, case: _Case, prompt_tokens: int, position: int) -> Record | None:
        seen = case.received.next_position
        after = seen - prompt_tokens
        if (
            position < seen
            or after < 0
            or after % EVERY_TOKENS
            or seen in (case.first, case.signed)
        ):
            return None
        return self._sign(session, case, final=False)

    def _sign(self, session: str, case: _Case, final: bool) -> Record:
        office = self._office
        sent = case.sent or Witness(session, office.stage + 1)
        receipt = Receipt(
            manifest=office.manifest,
            epoch=office.epoch,
            session=session,
            node=office.node,
            pipeline=office.pipeline,
            stage=office.stage,
            start=office.start,
            stop=office.stop,
            weights=office.weights,
            numeric=office.numeric,
            first=case.first,
            count=case.received.next_position,
            root_in=case.received.tree.root.hex(),
            root_out=sent.tree.root.hex(),
            root_hidden=case.hidden.tree.root.hex() if case.hidden else None,
            previous=case.previous,
            final=final,
        )
        record = sign(receipt, self._key)
        case.previous, case.signed = record.digest, receipt.count
        return record
