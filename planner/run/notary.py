"""Notary: what a stage keeps and signs of the sessions that go through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.record import EVERY_TOKENS, NumericClass, Receipt, Record, sign
from planner.receipts.tree import Payload, State, Witness
from planner.run.frames import Frame, Kind


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one sequence as they are on the wire: ``count`` of ``columns`` items."""

    dtype: str
    columns: int
    payload: Payload
    count: int

    def each(self, some: slice) -> Iterator[memoryview]:
        """The bytes of each of some rows."""
        whole = memoryview(self.payload).cast("B")
        size_bytes = len(whole) // self.count
        for row in range(some.start, some.stop):
            yield whole[row * size_bytes : (row + 1) * size_bytes]


@dataclass(frozen=True, slots=True)
class Office:
    """What all receipts of a stage have in common."""

    run: str
    """Begins the names of all sessions: no two runs have the same."""
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
    sent_dtype: str = ""
    """How the hidden states went on; as they are where it is empty."""
    before_in: State | None = None
    """Tree over what another node received before this one took over, and sent; None where it
    served the session from its start."""
    before_out: State | None = None


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
    sent_dtype: str = ""
    prompt_tokens: int = 0
    """0 until all of the prompt was seen."""
    signed: int = 0
    """Positions of its latest receipt."""
    previous: str | None = None
    """Digest of its latest receipt."""
    before: tuple[State, State] | None = None
    """Trees of what came in and went out while another node served it."""


class Notary:
    """Hashes what enters and leaves a stage, signs it, and keeps it until it may be forgotten."""

    def __init__(self, office: Office, key: Ed25519PrivateKey) -> None:
        self._office, self._key = office, key
        self._cases: dict[str, _Case] = {}

    def attend(self, frame: Frame, hidden: Rows, result: Frame | None) -> list[Record]:
        """Takes a job: what came in, the hidden states behind its layers, and what goes on.

        Returns the receipts that were due before it: after the prompt and after every 32
        positions more. They are signed one step late, because the last one of a session has to
        say that it is the last. Rows that were seen before are a step that was sent once more.
        """
        due, row = [], 0
        entered = Rows(frame.dtype, frame.columns, frame.payload, frame.rows)
        for number, seat in enumerate(frame.seats):
            session = self.name(seat.session)
            case = self._cases.get(session)
            if case is None:
                case = self._cases[session] = self._open(session)
            mine = slice(row, row + seat.tokens)
            if not frame.replay:
                due += self._due(session, case, seat.position)
            self._keep(case, seat.position, entered, hidden, mine)
            if result is not None and not frame.replay:
                sent = Rows(result.dtype, result.columns, result.payload, result.rows)
                if self._office.last:
                    mine = slice(number, number + 1)
                self._send(session, case, seat.position + seat.tokens, sent, mine)
            if frame.kind is Kind.PREFILL and not frame.replay:
                case.prompt_tokens = seat.position + seat.tokens
            row += seat.tokens
        return due

    def adopt(self, session: int, prompt_tokens: int, received: State, sent: State) -> None:
        """Answers for a session from here on: what it saw was replayed from another node's work.

        ``received`` and ``sent`` are what the stages before and after it have of that work, which
        may differ from the replay in rounding.
        """
        name, stage = self.name(session), self._office.stage
        case = self._cases.get(name)
        if case is not None:
            case.first, case.signed = len(case.entered_rows), 0
            case.prompt_tokens, case.before = prompt_tokens, (received, sent)
            case.received = Witness.restored(name, stage, received)
            case.sent = Witness.restored(name, stage + 1, sent)

    def name(self, session: int) -> str:
        """A session's name in receipts."""
        return f"{self._office.run}-{self._office.pipeline}-{session}"

    def seen(self, session: int, side: str) -> State | None:
        """What it saw coming ``in`` or going ``out`` of a session, if it saw any."""
        case = self._cases.get(self.name(session))
        witness = case and (case.received if side == "in" else case.sent)
        return witness.state if witness else None

    def close(self, session: int) -> Record | None:
        """The last receipt of a session; None if it saw nothing of it."""
        name = self.name(session)
        case = self._cases.get(name)
        return None if case is None else self._sign(name, case, final=True)

    def evidence(self, session: int) -> Evidence:
        """What it kept of a session; raises KeyError if that is forgotten."""
        case = self._cases[self.name(session)]
        return Evidence(
            b"".join(case.entered_rows),
            case.entered_dtype,
            b"".join(case.hidden_rows),
            case.hidden_dtype,
            case.sent_dtype,
            *(case.before or (None, None)),
        )

    def forget(self, session: int) -> None:
        """Drops what it kept of a session."""
        self._cases.pop(self.name(session), None)

    def _open(self, session: str) -> _Case:
        stage = self._office.stage
        hidden = Witness(session, stage + 1) if self._office.last else None
        return _Case(Witness(session, stage), hidden=hidden)

    def _keep(self, case: _Case, position: int, entered: Rows, hidden: Rows, mine: slice) -> None:
        rows = zip(entered.each(mine), hidden.each(mine), strict=True)
        for place, (x, y) in enumerate(rows, start=position):
            case.received.see(place, entered.dtype, (entered.columns,), x)
            if case.hidden is not None:
                case.hidden.see(place, hidden.dtype, (hidden.columns,), y)
            if place == len(case.entered_rows):
                case.entered_rows.append(bytes(x))  # buffers are used again
                case.hidden_rows.append(bytes(y))
        case.entered_dtype, case.hidden_dtype = entered.dtype, hidden.dtype

    def _send(self, session: str, case: _Case, end: int, sent: Rows, mine: slice) -> None:
        """Notes what goes on for the positions up to ``end``."""
        first, case.sent_dtype = end - (mine.stop - mine.start), sent.dtype
        if case.sent is None:
            case.sent = Witness(session, self._office.stage + 1, first)
        for place, z in enumerate(sent.each(mine), start=first):
            case.sent.see(place, sent.dtype, (sent.columns,), z)

    def _due(self, session: str, case: _Case, position: int) -> list[Record]:
        seen = len(case.entered_rows)
        after = seen - case.prompt_tokens
        old = position < seen or seen in (case.first, case.signed)
        if old or not case.prompt_tokens or after < 0 or after % EVERY_TOKENS:
            return []
        return [self._sign(session, case, final=False)]

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
            count=len(case.entered_rows),
            root_in=case.received.tree.root.hex(),
            root_out=sent.tree.root.hex(),
            root_hidden=case.hidden.tree.root.hex() if case.hidden else None,
            previous=case.previous,
            final=final,
        )
        record = sign(receipt, self._key)
        case.previous, case.signed = record.digest, receipt.count
        return record
