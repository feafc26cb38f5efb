"""Checking a log: everything that a stranger with nothing but the log can find wrong in it.

A record that breaks a rule does not count for the rules after it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from planner.receipts.audit import is_due, threshold, verdict
from planner.receipts.book import COORDINATOR, Book, Finding, read_book
from planner.receipts.record import EVERY_TOKENS, Audit, Receipt, Session, StageSeat


@dataclass(slots=True)
class Checked:
    """What a log says, and what is wrong with it."""

    findings: list[Finding] = field(default_factory=list)
    sessions: int = 0
    receipts: int = 0
    audits_due: int = 0
    audits_made: int = 0
    audits_unanswered: int = 0
    """Due audits of nodes that were lost before they could show what they had signed."""
    rejected: int = 0
    excluded: tuple[str, ...] = ()
    unanswered_tokens: int = 0
    """Positions for which a lost node signed nothing before another took over."""
    open_epochs: int = 0
    """Epochs whose key is not revealed yet: which audits were due is unknown there."""


def check_log(lines: Iterable[bytes], manifest: str = "") -> Checked:
    """Everything wrong with the lines of a log, in the order of the lines.

    ``manifest`` is the digest the reader expects, if there is one: without it a log proves only
    that it is consistent with the keys on its own first line.
    """
    checked = Checked()
    book = read_book(lines, manifest, checked.findings)
    if book is not None:
        checked.findings += _receipts(book)
        checked.findings += _boundaries(book)
        checked.findings += _withheld(book, checked)
        checked.findings += _audits(book, checked)
        checked.findings += _exclusions(book)
        checked.sessions = len(book.sessions)
        checked.receipts = len(book.receipts)
        checked.excluded = tuple(sorted({told.node for _, told in book.exclusions}))
        checked.open_epochs = len(book.commitments.keys() - book.keys.keys())
    checked.findings.sort(key=lambda finding: (finding.line, finding.session, finding.node))
    return checked


def _receipts(book: Book) -> list[Finding]:
    """Receipts that do not fit the deployment, the session or the receipt before; drops them."""
    findings: list[Finding] = []
    kept: list[tuple[str, Receipt]] = []
    last: dict[tuple[str, str, int], tuple[str, Receipt]] = {}
    for digest, told in book.receipts:
        chain = (told.session, told.node, told.stage)
        wrong = _stranger(book, told) or _breaks(told, last.get(chain))
        if not wrong and told.epoch in book.keys and told.session not in book.sessions:
            wrong = "the coordinator knows no such session"
        if wrong:
            findings.append(Finding(book.lines[digest], told.node, told.session, wrong))
        else:
            last[chain] = (digest, told)
            kept.append((digest, told))
    book.receipts = kept
    return findings


def _stranger(book: Book, told: Receipt) -> str:
    """Why a receipt is of another deployment, or an empty text."""
    seat = book.seat(told)
    if told.manifest != book.deployment.manifest:
        return "the receipt is of another manifest"
    if seat is None:
        return f"pipeline {told.pipeline} has no stage {told.stage}"
    if (told.start, told.stop) != (seat.start, seat.stop):
        return f"layers {told.start}-{told.stop} signed, {seat.start}-{seat.stop} planned"
    if told.weights != seat.weights:
        return "other weights signed than planned"
    if (told.root_hidden is None) == (seat == book.stages_of(seat.pipeline)[-1]):
        return "the last stage, and no other, signs the hidden states behind its tokens"
    holder = next((holder for holder in seat.holders if holder.node == told.node), None)
    if holder is None:
        return "the node does not hold this stage"
    return "" if holder.numeric == told.numeric else "another numeric class signed than planned"


def _breaks(told: Receipt, before: tuple[str, Receipt] | None) -> str:
    """Why a receipt does not follow the one before of its node and session."""
    if told.first >= told.count:
        return "the receipt answers for no position"
    if before is None:
        return "" if told.previous is None else "the receipt before it is missing"
    digest, earlier = before
    if told.previous != digest:
        return "the receipt before it is missing or another"
    if earlier.final:
        return "a receipt after the last one of the session"
    if told.first != earlier.first or told.count <= earlier.count:
        return "positions go backwards"
    return ""


def _boundaries(book: Book) -> list[Finding]:
    """Boundaries where the two sides signed different bytes; the first place of each."""
    findings: list[Finding] = []
    by_stage: dict[tuple[str, int], dict[int, Receipt]] = defaultdict(dict)
    line: dict[tuple[str, str, int, int], int] = {}
    for digest, told in book.receipts:
        by_stage[told.session, told.stage][told.count] = told
        line[told.session, told.node, told.stage, told.count] = book.lines[digest]
    for name, session in book.sessions.items():
        stages = [by_stage[name, seat.stage] for seat in book.stages_of(session.pipeline)]
        for sent, received in pairwise(stages):
            for count in sorted(sent.keys() & received.keys()):
                a, b = sent[count], received[count]
                if a.root_out != b.root_in:
                    reason = (
                        f"{a.node} sent other bytes than {b.node} received, by position {count}"
                    )
                    place = line[name, b.node, b.stage, count]
                    findings.append(Finding(place, f"{a.node} or {b.node}", name, reason))
                    break
        findings += _ends(session, stages, line)
    return findings


def _ends(
    session: Session,
    stages: Sequence[dict[int, Receipt]],
    line: dict[tuple[str, str, int, int], int],
) -> Iterator[Finding]:
    """What the first and last stage signed against what the coordinator sent and got."""
    if not stages:
        return
    first, last = stages[0].get(session.count), stages[-1].get(session.count)
    if first is not None and first.root_in != session.root_in:
        place = line[session.session, first.node, first.stage, session.count]
        reason = "the first stage received other tokens than the coordinator sent"
        yield Finding(place, first.node, session.session, reason)
    if last is not None and last.root_out != session.root_out:
        place = line[session.session, last.node, last.stage, session.count]
        reason = "the last stage sent other tokens than the coordinator received"
        yield Finding(place, last.node, session.session, reason)


def _withheld(book: Book, checked: Checked) -> list[Finding]:
    """Receipts that should have been signed and are not there."""
    findings: list[Finding] = []
    by_seat: dict[tuple[str, int], list[Receipt]] = defaultdict(list)
    for _, told in book.receipts:
        by_seat[told.session, told.stage].append(told)
    for name, session in book.sessions.items():
        if session.outcome != "completed":
            continue
        for seat in book.stages_of(session.pipeline):
            signed = sorted(by_seat[name, seat.stage], key=lambda told: told.count)
            findings += _gaps(session, seat, signed, checked)
    return findings


def due_counts(session: Session) -> list[int]:
    """Positions after which every stage signs: the prompt, every 32 tokens more, and the end."""
    return [*range(session.prompt_tokens, session.count, EVERY_TOKENS), session.count]


def _gaps(
    session: Session, seat: StageSeat, signed: Sequence[Receipt], checked: Checked
) -> Iterator[Finding]:
    """Missing receipts of one stage; those of a node that was lost are counted, not accused."""
    counts = {told.count for told in signed}
    handover = max((told.first for told in signed), default=0)
    answered = max((told.count for told in signed if told.count <= handover), default=0)
    checked.unanswered_tokens += handover - answered
    who = signed[-1].node if signed else seat.holders[0].node
    for count in due_counts(session):
        if count > handover and count not in counts:
            reason = f"stage {seat.stage} withheld its receipt after {count} positions"
            yield Finding(0, who, session.session, reason)
    if signed and signed[-1].count == session.count and not signed[-1].final:
        yield Finding(0, who, session.session, f"stage {seat.stage} did not sign the end")


def _audits(book: Book, checked: Checked) -> list[Finding]:
    """Audits that were due and not made, and audits that were not made as the rules say."""
    findings: list[Finding] = []
    last: dict[tuple[str, str, int], tuple[str, Receipt]] = {}
    for digest, told in book.receipts:
        if told.final:  # a node that was lost before cannot show what it did
            last[told.session, told.node, told.stage] = (digest, told)
    for digest, told in last.values():
        key = book.keys.get(told.epoch)
        if key is None or not is_due(key, told, book.deployment.audit_probability):
            continue
        checked.audits_due += 1
        if digest in book.absences and not book.audits[digest]:
            checked.audits_unanswered += 1
        elif not book.audits[digest]:
            reason = f"the audit of stage {told.stage} was due and is missing"
            findings.append(Finding(book.lines[digest], COORDINATOR, told.session, reason))
    receipts = dict(book.receipts)
    for audited, made in book.audits.items():
        for digest, audit in made:
            wrong = _unfair(book, receipts.get(audited), audit, made)
            session = receipts[audited].session if audited in receipts else ""
            if wrong:
                findings.append(Finding(book.lines[digest], audit.verifier, session, wrong))
            checked.audits_made += 1
            checked.rejected += audit.verdict == "reject"
    return findings


def _unfair(
    book: Book, audited: Receipt | None, audit: Audit, made: Sequence[tuple[str, Audit]]
) -> str:
    """Why an audit does not count."""
    seat = book.seat(audited) if audited else None
    if audited is None or seat is None:
        return "the audit is of a receipt that is not in the log"
    if audit.verifier == audited.node:
        return "a node audited itself"
    holder = next((holder for holder in seat.holders if holder.node == audit.verifier), None)
    if holder is None or holder.numeric != audit.numeric:
        return "the verifier does not hold this stage in the numeric class it names"
    bounds = threshold(seat, audited.numeric, audit.numeric)
    if bounds is None:
        return "there is no threshold for this pair of numeric classes"
    if audit.token_gap is None and seat == book.stages_of(seat.pipeline)[-1]:
        return "the tokens of the last stage were not checked"
    if audit.verdict != verdict(audit.distance, audit.token_gap, bounds):
        return f"the verdict {audit.verdict} does not follow from the distance {audit.distance:g}"
    others = {other.verifier for _, other in made} - {audit.verifier}
    if audit.verdict != "accept" and not others:
        return "no second verifier looked at what this one did not accept"
    return ""


def _exclusions(book: Book) -> list[Finding]:
    """Exclusions without two rejects, and work of nodes that were excluded."""
    findings: list[Finding] = []
    receipts = dict(book.receipts)
    audits = {digest: audit for made in book.audits.values() for digest, audit in made}
    for digest, told in book.exclusions:
        line = book.lines[digest]
        rejects = {
            audits[cited].verifier
            for cited in told.audits
            if cited in audits
            and audits[cited].verdict == "reject"
            and audits[cited].receipt in receipts
            and receipts[audits[cited].receipt].node == told.node
        }
        if len(rejects) < 2:
            reason = f"{told.node} was excluded without the rejects of two verifiers"
            findings.append(Finding(line, COORDINATOR, "", reason))
        for signed, receipt in book.receipts:
            if receipt.node == told.node and book.lines[signed] > line:
                reason = "the node was excluded before this line"
                findings.append(Finding(book.lines[signed], told.node, receipt.session, reason))
    return findings
