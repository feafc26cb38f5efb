"""Record: one signed line of the log, and the statements a line can make."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, TypeAdapter, ValidationError

from planner.core.plan import Stage
from planner.core.spec import Spec

LINE_LIMIT_BYTES = 1 << 18
"""Longest line of a log; only a deployment of very many nodes comes near."""
EVERY_TOKENS = 32
"""A node signs what it saw after so many positions, and at the end of a session."""

_DOMAIN = b"planner log record 1\n"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Count = Annotated[int, Field(ge=0, le=2**31)]
Verdict = Literal["accept", "reject", "undecided"]


KERNEL = "sdpa"
"""Attention kernel of stages and verifiers: torch's own choice."""


class NumericClass(Spec):
    """What decides the rounding of a stage: two stages of one class differ only by noise."""

    dtype: Name
    quant: Name
    kernel: Name


def numeric_class(stage: Stage) -> NumericClass:
    """That of a stage in this runtime, and of its verifiers."""
    return NumericClass(dtype=stage.quant, quant=stage.quant, kernel=KERNEL)


class Threshold(Spec):
    """Where the distance of an audit separates noise from other weights, for a pair of classes."""

    prover: NumericClass
    verifier: NumericClass
    accept: Annotated[float, Field(gt=0)]
    """Distances up to here are noise."""
    reject: Annotated[float, Field(gt=0)]
    """Distances from here on are no noise."""
    token_gap: Annotated[float, Field(ge=0)] = 0.0
    """Largest mean clipped logit gap of honest tokens; matters on the last stage."""


class Holder(Spec):
    """A node that holds a stage: its primary first, then the standbys."""

    node: Name
    numeric: NumericClass


class StageSeat(Spec):
    """A stage of a pipeline and who may answer for it."""

    pipeline: Count
    stage: Count
    start: Count
    stop: Count
    weights: Hash
    """Digest of the weights of its layers."""
    holders: tuple[Holder, ...] = Field(min_length=1)
    thresholds: tuple[Threshold, ...] = ()


class Deployment(Spec):
    """First line: who takes part, with which keys, weights and rules; the coordinator signs it."""

    kind: Literal["deployment"] = "deployment"
    manifest: Hash
    keys: dict[Name, Hash]
    """Ed25519 public key of every node by its id."""
    stages: tuple[StageSeat, ...] = Field(min_length=1)
    audit_probability: Annotated[float, Field(ge=0, le=1)]


class Commitment(Spec):
    """The coordinator binds itself to the key of an epoch before it sees any receipt of it."""

    kind: Literal["commitment"] = "commitment"
    epoch: Count
    commitment: Hash
    """SHA-256 of the key."""


class Receipt(Spec):
    """A node says what it received and what it sent for the positions ``[0, count)``."""

    kind: Literal["receipt"] = "receipt"
    manifest: Hash
    epoch: Count
    session: Name
    node: Name
    pipeline: Count
    stage: Count
    start: Count
    stop: Count
    weights: Hash
    numeric: NumericClass
    first: Count
    """First position it answers for; a standby that took over starts later than 0."""
    count: Count
    root_in: Hash
    root_out: Hash
    root_hidden: Hash | None = None
    """On the last stage, over the hidden states that its tokens were picked from."""
    sampler: Name = "greedy"
    seed: Count = 0
    previous: Hash | None = None
    """Digest of its receipt before this one of the same session."""
    final: bool = False


class Session(Spec):
    """The coordinator says what it sent into the first stage and got from the last one."""

    kind: Literal["session"] = "session"
    epoch: Count
    session: Name
    pipeline: Count
    prompt_tokens: Annotated[int, Field(ge=1, le=2**31)]
    count: Count
    """Positions that went through the pipeline: prompt and output tokens, less the last."""
    root_in: Hash
    root_out: Hash
    outcome: Literal["completed", "failed", "cancelled"] = "completed"


class Audit(Spec):
    """A verifier computed a stage of a session again and says how far apart the results are."""

    kind: Literal["audit"] = "audit"
    epoch: Count
    receipt: Hash
    """Digest of the receipt that was audited."""
    verifier: Name
    numeric: NumericClass
    distance: Annotated[float, Field(ge=0)]
    """Mean over the generated positions of |y - y_ref| / |y_ref - x|."""
    token_gap: Annotated[float, Field(ge=0)] | None = None
    """Mean clipped logit gap of the tokens, on the last stage."""
    verdict: Verdict


class Absence(Spec):
    """The coordinator says that a node was lost before it could show what it had signed."""

    kind: Literal["absence"] = "absence"
    epoch: Count
    receipt: Hash
    """Digest of the receipt whose audit was due."""


class Exclusion(Spec):
    """The coordinator stops using a node because two verifiers rejected its work."""

    kind: Literal["exclusion"] = "exclusion"
    epoch: Count
    node: Name
    audits: tuple[Hash, ...]


class Reveal(Spec):
    """End of an epoch: its key, and the root over all lines before this one."""

    kind: Literal["reveal"] = "reveal"
    epoch: Count
    key: Hash
    lines: Count
    root: Hash


Statement = Deployment | Commitment | Receipt | Session | Audit | Absence | Exclusion | Reveal


class Record(Spec):
    """A statement and the Ed25519 signature of its canonical JSON."""

    statement: Annotated[Statement, Field(discriminator="kind")]
    signature: Signature

    @property
    def digest(self) -> str:
        """SHA-256 by which other records refer to this one."""
        return sha256(canonical(self.statement)).hexdigest()

    @property
    def line(self) -> bytes:
        """The record as a line of the log, without the newline."""
        return canonical(self)


_RECORD: TypeAdapter[Record] = TypeAdapter(Record)


def canonical(value: Spec) -> bytes:
    """Canonical JSON: keys sorted, no spaces, only ASCII."""
    plain = value.model_dump(mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sign(statement: Statement, key: Ed25519PrivateKey) -> Record:
    """The statement with a signature over it."""
    signature = key.sign(_DOMAIN + canonical(statement))
    return Record(statement=statement, signature=signature.hex())


def signed_by(record: Record, public_key: str) -> bool:
    """Whether the holder of a public key (hex) signed this very statement."""
    try:
        known = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        known.verify(bytes.fromhex(record.signature), _DOMAIN + canonical(record.statement))
    except (InvalidSignature, ValueError):
        return False
    return True


def public_key(key: Ed25519PrivateKey) -> str:
    """Hex of the public half of a key."""
    return key.public_key().public_bytes_raw().hex()


def parse(line: bytes) -> Record | str:
    """The record on a line, or what is wrong with the line.

    Only the canonical spelling is a record, so that a line has one digest.
    """
    if len(line) > LINE_LIMIT_BYTES:
        return f"the line is longer than {LINE_LIMIT_BYTES} bytes"
    try:
        record = _RECORD.validate_json(line, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    if record.line != line:
        return "the line is not in canonical form"
    return record
