"""Warrant: what the operator of a deployment has signed, so that nodes do that and nothing else.

It names who holds which layers, the digest of the weights and an epoch. Nodes refuse a warrant of
an older epoch than they have seen, so that a plan that was replaced cannot be brought back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, ValidationError

from planner.core.errors import RunError
from planner.core.plan import Plan
from planner.run.identity import Authority, Keys, verified
from planner.run.messages import Code, Digest, Layer, MemberId, Message, canonical

_CONTEXT = b"planner warrant\0"


class Assignment(Message):
    """Layers that a node may hold."""

    node: MemberId
    start: Layer
    stop: Layer
    quant: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Warrant(Message):
    """What may be done, by whom, until when."""

    deployment: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    manifest: Digest
    """Of the manifest file."""
    weights: Digest
    """Of the list of the checkpoint's blobs."""
    epoch: Annotated[int, Field(ge=1, le=2**53)]
    expires: Annotated[int, Field(ge=0, le=2**53)]
    """Seconds since 1970."""
    assignments: Annotated[tuple[Assignment, ...], Field(min_length=1, max_length=4096)]

    def of(self, node: str) -> list[Assignment]:
        """What a node may hold."""
        return [one for one in self.assignments if one.node == node]


def assignments_of(plan: Plan) -> tuple[Assignment, ...]:
    """What a plan lets each node hold; standbys may hold what they stand by for."""
    held = [(stage.node, stage) for pipeline in plan.pipelines for stage in pipeline.stages]
    held += [(one.node, plan.pipelines[one.pipeline].stages[one.stage]) for one in plan.standbys]
    found = (
        Assignment(node=node, start=stage.start, stop=stage.stop, quant=stage.quant)
        for node, stage in held
    )
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Signed:
    """A warrant as JSON and the signature of the deployment's authority."""

    text: str
    signature: str


class WarrantError(RunError):
    """A warrant that is not good; ``code`` says why."""

    def __init__(self, code: Code, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


def sign(warrant: Warrant, authority: Authority) -> Signed:
    """The warrant, signed."""
    text = canonical(warrant.model_dump(mode="json")).decode()
    return Signed(text, authority.key.sign(_CONTEXT + text.encode()).hex())


def check(signed: Signed, keys: Keys, seen_epoch: int = 0, now_s: float | None = None) -> Warrant:
    """The warrant, if this deployment's operator signed it and it is in force; WarrantError."""
    message = _CONTEXT + signed.text.encode()
    if not verified(keys.authority, bytes.fromhex(signed.signature), message):
        raise WarrantError("unsigned", "the warrant is not signed by this deployment's operator")
    try:
        warrant = Warrant.model_validate_json(signed.text)
    except ValidationError:
        raise WarrantError("unsigned", "the signed warrant is malformed") from None
    if warrant.deployment != keys.me.deployment:
        raise WarrantError("unsigned", "the warrant is of another deployment")
    if warrant.expires < (time.time() if now_s is None else now_s):
        raise WarrantError("expired", "the warrant has expired", "planner node sign")
    if warrant.epoch < seen_epoch:
        raise WarrantError(
            "stale_epoch", f"the warrant has epoch {warrant.epoch}, {seen_epoch} was seen"
        )
    return warrant
