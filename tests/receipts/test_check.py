"""An honest log passes; every way of tampering with it is named by line, node and reason."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.receipts.check import check_log
from planner.receipts.record import (
    LINE_LIMIT_BYTES,
    Audit,
    Exclusion,
    Receipt,
    Session,
    Statement,
    canonical,
    parse,
    sign,
)
from tests.receipts.world import (
    MANIFEST,
    audit_of,
    honest,
    key,
    reveal,
    seats,
    signed,
    statements,
)

Told = list[tuple[Statement, str]]


def test_an_honest_log_has_nothing_wrong() -> None:
    checked = check_log(honest(), MANIFEST)
    assert checked.findings == []
    assert (checked.sessions, checked.receipts) == (2, 24)
    assert (checked.audits_due, checked.audits_made, checked.rejected) == (6, 6, 0)
    assert (checked.open_epochs, checked.unanswered_tokens) == (0, 0)


def test_about_as_many_audits_are_due_as_were_promised() -> None:
    told = statements(probability=0.3, sessions=40)
    checked = check_log([record.line for record in signed(told)])
    assert checked.findings == []
    assert 20 <= checked.audits_due <= 52


def test_a_log_that_is_not_over_is_checked_as_far_as_it_goes() -> None:
    checked = check_log(honest()[:-1])
    assert checked.findings == []
    assert (checked.open_epochs, checked.audits_due) == (1, 0)


def first(told: Told, kind: type, at: int = 0) -> int:
    """Index of the ``at``-th statement of a kind."""
    return [i for i, (statement, _) in enumerate(told) if isinstance(statement, kind)][at]


def change(told: Told, index: int, **values: object) -> None:
    """A statement said differently by the one who has its key."""
    statement, who = told[index]
    told[index] = (statement.model_copy(update=values), who)


def resigned_output(told: Told) -> None:
    """b claims other outputs from the start on, with its chain kept right."""
    previous = None
    for index, (statement, _) in enumerate(told):
        if (
            isinstance(statement, Receipt)
            and statement.node == "b"
            and (statement.session == "session-0")
        ):
            change(told, index, root_out="7" * 64, previous=previous)
            previous = sha256(canonical(told[index][0])).hexdigest()
        if isinstance(statement, Audit) and statement.receipt == told_digest(told, statement):
            change(told, index, receipt=previous)


def told_digest(told: Told, audit: Audit) -> str:
    """Digest of b's honest last receipt if ``audit`` is about it."""
    honest_receipt = next(
        s
        for s, _ in statements()
        if isinstance(s, Receipt) and s.node == "b" and s.final and s.session == "session-0"
    )
    return sha256(canonical(honest_receipt)).hexdigest()


def swap_prompt(told: Told) -> None:
    change(told, first(told, Session), root_in="5" * 64)


def swap_tokens(told: Told) -> None:
    change(told, first(told, Session), root_out="5" * 64)


def again(told: Told) -> None:
    told.append(told[first(told, Receipt)])


def drop_receipt(told: Told) -> None:
    del told[first(told, Receipt, 3)]


def drop_last_receipts(told: Told) -> None:
    at = [i for i, (s, _) in enumerate(told) if isinstance(s, Receipt) and s.node == "a"][-1]
    assert isinstance(told[at][0], Receipt)
    audited = sha256(canonical(told[at][0])).hexdigest()
    told[:] = [
        (s, who)
        for i, (s, who) in enumerate(told)
        if i != at and not (isinstance(s, Audit) and s.receipt == audited)
    ]


def drop_audit(told: Told) -> None:
    del told[first(told, Audit)]


def own_audit(told: Told) -> None:
    at = first(told, Audit)
    told[at] = (told[at][0].model_copy(update={"verifier": "a"}), "a")


def audit_by_stranger(told: Told) -> None:
    at = first(told, Audit)
    told[at] = (told[at][0].model_copy(update={"verifier": "c"}), "c")


def lenient_audit(told: Told) -> None:
    change(told, first(told, Audit), distance=0.5)


def lone_reject(told: Told) -> None:
    change(told, first(told, Audit), distance=0.5, verdict="reject")


def unchecked_tokens(told: Told) -> None:
    change(told, first(told, Audit, 2), token_gap=None)


def forged_signer(told: Told) -> None:
    told[first(told, Receipt)] = (told[first(told, Receipt)][0], "b")


def unknown_session(told: Told) -> None:
    del told[first(told, Session)]


def excluded_without_rejects(told: Told) -> None:
    told.append((Exclusion(epoch=0, node="b", audits=()), "coordinator"))


def late_receipt(told: Told) -> None:
    told[0], told[1] = told[0], told[first(told, Receipt)]


TAMPERINGS: list[tuple[Callable[[Told], None], str, str]] = [
    (forged_signer, "a", "not signed with the key of a"),
    (lambda told: change(told, 2, manifest="1" * 64), "a", "another manifest"),
    (lambda told: change(told, 2, weights="1" * 64), "a", "other weights"),
    (lambda told: change(told, 2, stop=3), "a", "layers 0-3 signed, 0-2 planned"),
    (lambda told: change(told, 2, stage=9), "a", "no stage 9"),
    (
        lambda told: change(
            told, 2, numeric=told[2][0].numeric.model_copy(update={"dtype": "int8"})
        ),
        "a",
        "another numeric class",
    ),
    (lambda told: change(told, 2, stage=1, start=2, stop=4), "a", "signed"),
    (lambda told: change(told, 2, session="session-1"), "a", "before it is missing"),
    (lambda told: change(told, 4, root_hidden=None), "c", "hidden states behind its tokens"),
    (resigned_output, "b or c", "b sent other bytes than c received"),
    (swap_prompt, "a", "other tokens than the coordinator sent"),
    (swap_tokens, "c", "other tokens than the coordinator received"),
    (again, "a", "the record of line 3 again"),
    (drop_receipt, "a", "the receipt before it is missing"),
    (drop_last_receipts, "a", "withheld its receipt after 74 positions"),
    (unknown_session, "a", "knows no such session"),
    (late_receipt, "a", "no commitment before this line"),
    (drop_audit, "coordinator", "was due and is missing"),
    (own_audit, "a", "audited itself"),
    (audit_by_stranger, "c", "does not hold this stage"),
    (lenient_audit, "spare", "does not follow from the distance"),
    (lone_reject, "spare", "no second verifier"),
    (unchecked_tokens, "spare", "tokens of the last stage were not checked"),
    (excluded_without_rejects, "coordinator", "without the rejects of two verifiers"),
]


@pytest.mark.parametrize(("tamper", "node", "reason"), TAMPERINGS)
def test_tampering_is_named(tamper: Callable[[Told], None], node: str, reason: str) -> None:
    told = statements()
    tamper(told)
    found = check_log([record.line for record in signed(told)], MANIFEST).findings
    assert any(node == finding.node and reason in finding.reason for finding in found), found


def test_a_line_taken_out_after_the_end_is_noticed() -> None:
    lines = honest()
    session = next(i for i, line in enumerate(lines) if b'"kind":"session"' in line)
    found = check_log(lines[:2] + lines[session + 4 :]).findings
    assert any("are not those it was signed over" in finding.reason for finding in found)


def test_another_key_than_the_one_committed_to_is_noticed() -> None:
    lines = honest()[:-1]
    found = check_log([*lines, reveal(lines, secret=bytes(32)).line]).findings
    assert any("not the one committed to" in finding.reason for finding in found)


def test_a_log_of_another_manifest_is_noticed() -> None:
    assert "not of" in check_log(honest(), "0" * 64).findings[0].reason


def test_a_deployment_signed_by_somebody_else_is_noticed() -> None:
    lines = [sign(seats(), key("a")).line, *honest()[1:]]
    assert "coordinator's key" in check_log(lines).findings[0].reason


def test_two_rejects_exclude_a_node_and_its_later_work_is_noticed() -> None:
    told = statements(sessions=1)
    receipt = next(s for s, _ in told if isinstance(s, Receipt) and s.final and s.node == "b")
    told = [
        (s, who)
        for s, who in told
        if not (isinstance(s, Audit) and s.receipt == sha256(canonical(receipt)).hexdigest())
    ]
    rejects = [audit_of(receipt, 0.5, verifier) for verifier in ("spare", "other")]
    told += [(audit, audit.verifier) for audit in rejects]
    digests = tuple(sha256(canonical(audit)).hexdigest() for audit in rejects)
    told.append((Exclusion(epoch=0, node="b", audits=digests), "coordinator"))
    checked = check_log([record.line for record in signed(told)])
    assert checked.findings == []
    assert (checked.rejected, checked.excluded) == (2, ("b",))
    later = receipt.model_copy(update={"session": "session-9", "previous": None})
    ended = Session(
        epoch=0,
        session="session-9",
        pipeline=0,
        prompt_tokens=1,
        count=1,
        root_in="0" * 64,
        root_out="0" * 64,
        outcome="failed",
    )
    told += [(later, "b"), (ended, "coordinator"), (audit_of(later), "spare")]
    found = check_log([record.line for record in signed(told)]).findings
    assert [finding.reason for finding in found] == ["the node was excluded before this line"]


def test_a_standby_answers_from_where_it_took_over() -> None:
    told: Told = []
    taken = 0
    previous = None
    for statement, who in statements(probability=0.0, sessions=1):
        if isinstance(statement, Receipt) and statement.node == "b" and statement.count > 40:
            statement = statement.model_copy(
                update={"node": "spare", "first": 40, "previous": previous}
            )
            previous, who = sha256(canonical(statement)).hexdigest(), "spare"
            taken += 1
        told.append((statement, who))
    checked = check_log([record.line for record in signed(told)])
    assert taken == 2
    assert checked.findings == []
    assert checked.unanswered_tokens == 3


def test_one_spelling_per_record() -> None:
    line = honest()[0]
    assert "canonical" in str(parse(line.replace(b'":', b'": ', 1)))
    assert "longer" in str(parse(b" " * (LINE_LIMIT_BYTES + 1)))


LINES = honest()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LINES) - 1), st.data())
def test_a_mutated_line_never_passes(number: int, data: st.DataObject) -> None:
    line = bytearray(LINES[number])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        action = data.draw(st.sampled_from(("flip", "cut", "double")))
        if action == "flip":
            line[at] ^= data.draw(st.integers(1, 255))
        elif action == "cut":
            del line[at : at + data.draw(st.integers(1, 40))]
        else:
            line[at:at] = line[at : at + data.draw(st.integers(1, 40))]
        line = line or bytearray(b"{")
    mutated = bytes(line)
    found = check_log([*LINES[:number], mutated, *LINES[number + 1 :]]).findings
    assert bool(found) == (mutated != LINES[number])


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_hundred_thousand_mutated_lines_neither_crash_nor_hang() -> None:
    import random
    import time

    drawn = random.Random(7)
    nested = b'{"statement":' + b"[" * 60_000
    worst_s = 0.0
    for _ in range(100_000):
        line = bytearray(drawn.choice(LINES))
        for _ in range(drawn.randint(1, 5)):
            at = drawn.randrange(len(line))
            line[at : at + drawn.randint(0, 3)] = drawn.randbytes(drawn.randint(0, 3))
            line = line or bytearray(b"[")
        started = time.process_time()
        parse(bytes(line))
        worst_s = max(worst_s, time.process_time() - started)
    assert isinstance(parse(nested), str)
    assert worst_s < 0.1
