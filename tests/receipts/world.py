"""An honest log of three stages and two standbys, made line by line so that tests can alter it."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from planner.receipts.audit import commitment, is_due
from planner.receipts.record import (
    Audit,
    Commitment,
    Deployment,
    Holder,
    NumericClass,
    Receipt,
    Record,
    Reveal,
    Session,
    StageSeat,
    Statement,
    Threshold,
    canonical,
    public_key,
    sign,
)
from planner.receipts.tree import Tree, Witness

MANIFEST = sha256(b"manifest").hexdigest()
SECRET = sha256(b"secret").digest()
BF16 = NumericClass(dtype="bf16", quant="bf16", kernel="sdpa")
THRESHOLD = Threshold(prover=BF16, verifier=BF16, accept=0.01, reject=0.02, token_gap=0.005)
PROMPT, OUTPUT = 5, 70
COUNT = PROMPT + OUTPUT - 1
NODES = ("a", "b", "c", "spare", "other", "coordinator")


def key(node: str) -> Ed25519PrivateKey:
    """The same key for a node in every test."""
    return Ed25519PrivateKey.from_private_bytes(sha256(node.encode()).digest())


def seats(probability: float = 1.0) -> Deployment:
    """Stages on a, b and c; spare and other hold all of them too."""
    stages = tuple(
        StageSeat(
            pipeline=0,
            stage=index,
            start=index * 2,
            stop=index * 2 + 2,
            weights=sha256(node.encode()).hexdigest(),
            holders=tuple(Holder(node=held, numeric=BF16) for held in (node, "spare", "other")),
            thresholds=(THRESHOLD,),
        )
        for index, node in enumerate("abc")
    )
    return Deployment(
        manifest=MANIFEST,
        keys={node: public_key(key(node)) for node in NODES},
        stages=stages,
        audit_probability=probability,
    )


def row(session: str, boundary: int, position: int) -> bytes:
    """What crosses a boundary at a position."""
    return sha256(f"{session} {boundary} {position}".encode()).digest()


def roots(session: str, boundary: int, count: int, first: int = 0) -> str:
    """Root over the positions ``[first, count)`` of a boundary."""
    witness = Witness(session, boundary, first)
    for position in range(first, count):
        witness.see(position, "bfloat16", (16,), row(session, boundary, position))
    return witness.tree.root.hex()


def receipts(session: str, deployment: Deployment) -> list[Receipt]:
    """What a, b and c sign of one session, in the order of positions."""
    made: list[Receipt] = []
    previous: dict[str, str] = {}
    for count in (5, 37, 69, COUNT):
        for seat in deployment.stages:
            node = seat.holders[0].node
            out = PROMPT - 1 if seat.stage == 2 else 0
            told = Receipt(
                manifest=MANIFEST,
                epoch=0,
                session=session,
                node=node,
                pipeline=0,
                stage=seat.stage,
                start=seat.start,
                stop=seat.stop,
                weights=seat.weights,
                numeric=BF16,
                first=0,
                count=count,
                root_in=roots(session, seat.stage, count),
                root_out=roots(session, seat.stage + 1, count, out),
                root_hidden=roots(session, 9, count) if seat.stage == 2 else None,
                previous=previous.get(node),
                final=count == COUNT,
            )
            previous[node] = sha256(canonical(told)).hexdigest()
            made.append(told)
    return made


def statements(probability: float = 1.0, sessions: int = 2) -> list[tuple[Statement, str]]:
    """Statements of an honest log but for its end, each with who signs it."""
    deployment = seats(probability)
    told: list[tuple[Statement, str]] = [
        (deployment, "coordinator"),
        (Commitment(epoch=0, commitment=commitment(SECRET)), "coordinator"),
    ]
    for number in range(sessions):
        session = f"session-{number}"
        signed = receipts(session, deployment)
        told += [(receipt, receipt.node) for receipt in signed]
        ended = Session(
            epoch=0,
            session=session,
            pipeline=0,
            prompt_tokens=PROMPT,
            count=COUNT,
            root_in=roots(session, 0, COUNT),
            root_out=roots(session, 3, COUNT, PROMPT - 1),
        )
        told.append((ended, "coordinator"))
        told += [
            (audit_of(receipt), "spare")
            for receipt in signed
            if receipt.final and is_due(SECRET, receipt, probability)
        ]
    return told


def audit_of(receipt: Receipt, distance: float = 0.005, verifier: str = "spare") -> Audit:
    """A verifier's statement about a receipt."""
    return Audit(
        epoch=0,
        receipt=sha256(canonical(receipt)).hexdigest(),
        verifier=verifier,
        numeric=BF16,
        distance=distance,
        token_gap=0.001 if receipt.stage == 2 else None,
        verdict="accept" if distance <= 0.01 else "reject",
    )


def signed(told: list[tuple[Statement, str]]) -> list[Record]:
    """The statements signed, with a reveal over them at the end."""
    made = [sign(statement, key(who)) for statement, who in told]
    return [*made, reveal([record.line for record in made])]


def reveal(lines: list[bytes], secret: bytes = SECRET) -> Record:
    """End of epoch 0 after these lines."""
    tree = Tree()
    for line in lines:
        tree.append(sha256(b"\x00" + line).digest())
    ended = Reveal(epoch=0, key=secret.hex(), lines=len(lines), root=tree.root.hex())
    return sign(ended, key("coordinator"))


def honest(probability: float = 1.0) -> list[bytes]:
    """Lines of an honest log."""
    return [record.line for record in signed(statements(probability))]
