"""Audits: which receipts are due for one, drawn so that nobody can tell beforehand."""

from __future__ import annotations

import hmac
from hashlib import sha256

from planner.receipts.record import NumericClass, Receipt, StageSeat, Threshold, Verdict

_BITS = 256
_FINE = 53
"""Bits of a probability that count: those of a float."""


def commitment(key: bytes) -> str:
    """What the coordinator publishes before an epoch: SHA-256 of the key (hex)."""
    return sha256(key).hexdigest()


def is_due(key: bytes, receipt: Receipt, probability: float) -> bool:
    """Whether the last receipt of a node for a session has to be audited.

    HMAC-SHA256 of the session, the stage and the roots under the epoch's key, read as a number,
    lies below ``probability`` of its range. Roots are signed before the key is known, so nobody
    can pick them to escape; the key is fixed before the roots, so nobody can pick it to spare.
    """
    told = "|".join(
        (
            receipt.session,
            str(receipt.pipeline),
            str(receipt.stage),
            receipt.root_in,
            receipt.root_out,
        )
    )
    drawn = int.from_bytes(hmac.digest(key, told.encode(), sha256), "big")
    below: int = round(probability * 2**_FINE) << (_BITS - _FINE)
    return drawn < below


def threshold(seat: StageSeat, prover: NumericClass, verifier: NumericClass) -> Threshold | None:
    """The threshold for a pair of numeric classes, or None where it was never calibrated."""
    for known in seat.thresholds:
        if known.prover == prover and known.verifier == verifier:
            return known
    return None


def verdict(distance: float, token_gap: float | None, known: Threshold) -> Verdict:
    """What an audit found under a threshold; between the two bounds nothing is decided.

    Tokens that do not follow from the logits are a reject whatever the distance: activations can
    be computed honestly after the tokens were made by something cheaper.
    """
    if token_gap is not None and token_gap > known.token_gap:
        return "reject"
    if distance <= known.accept:
        return "accept"
    return "reject" if distance >= known.reject else "undecided"
