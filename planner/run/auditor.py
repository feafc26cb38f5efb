"""Auditor: computes the work of a stage in one session again, from the bytes that were signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from planner.receipts.audit import threshold, verdict
from planner.receipts.record import Audit, Receipt, Record, StageSeat, sign
from planner.receipts.tree import State, Witness
from planner.run.docket import Case
from planner.run.frames import Seat
from planner.run.model import Stage
from planner.run.notary import Evidence
from planner.run.reexecution import DISTANCE_LIMIT, GAP_LIMIT, Deviation, Passage, reexecute
from planner.run.wire import INT8, narrow, row_bytes, widen

WIRE: dict[str, torch.dtype] = {
    "int32": torch.int32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    INT8: torch.uint8,
}
"""Number formats of rows on the wire."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the coordinator knows of a session: its tokens, and how they were picked."""

    prompt_tokens: int
    tokens: Sequence[int]
    """Output tokens."""
    seat: Seat


def examine(stage: Stage, receipt: Receipt, evidence: Evidence, answer: Answer) -> Deviation:
    """How far what a node did in a session is from what ``stage`` makes of the same inputs.

    Evidence with other roots than the receipt's, or of another size, is as far off as can be.
    """
    columns, into = stage.config.hidden_size, evidence.entered_dtype
    forged = Deviation(DISTANCE_LIMIT, GAP_LIMIT if stage.last else None)
    entered = _rows(evidence.entered, into, 1 if stage.first else columns)
    hidden = _rows(evidence.hidden, evidence.hidden_dtype, columns)
    if entered is None or hidden is None or not len(entered) == len(hidden) == receipt.count:
        return forged
    boundary, signed = receipt.stage + 1, receipt.root_out
    before, out = evidence.before_out, evidence.hidden_dtype
    sent = hidden
    if stage.last:  # its tokens are the coordinator's to compare
        signed, before = receipt.root_hidden or "", None
    elif evidence.sent_dtype == INT8:  # what went on follows from the hidden states
        sent, out = narrow(hidden), INT8
    try:
        roots = (
            _root(receipt.session, receipt.stage, entered, into, evidence.before_in),
            _root(receipt.session, boundary, sent, out, before),
        )
    except ValueError:
        return forged
    if roots != (receipt.root_in, signed):
        return forged
    tokens = torch.tensor(answer.tokens) if stage.last else None
    x = entered[:, 0] if stage.first else entered
    if into == INT8:
        x = widen(entered, columns, stage.dtype)
    passage = Passage(x, hidden, answer.prompt_tokens, tokens, answer.seat)
    return reexecute(stage, passage, receipt.first)


def audit(
    stage: Stage,
    case: Case,
    evidence: Evidence,
    answer: Answer,
    seat: StageSeat,
    key: Ed25519PrivateKey,
) -> Record:
    """A verifier's signed word on a receipt; raises LookupError where no threshold is known."""
    found = examine(stage, case.receipt, evidence, answer)
    numeric = next(holder.numeric for holder in seat.holders if holder.node == case.verifier)
    bounds = threshold(seat, case.receipt.numeric, numeric)
    if bounds is None:
        raise LookupError(f"no threshold for {case.receipt.numeric} and {numeric}")
    told = Audit(
        epoch=case.receipt.epoch,
        receipt=case.digest,
        verifier=case.verifier,
        numeric=numeric,
        distance=found.distance,
        token_gap=found.token_gap,
        verdict=verdict(found.distance, found.token_gap, bounds),
    )
    return sign(told, key)


def _rows(payload: bytes, dtype: str, columns: int) -> Tensor | None:
    """Rows [positions, columns] of a payload; None where it does not hold whole rows."""
    if dtype not in WIRE or not payload:
        return None
    if dtype == INT8:
        columns = row_bytes(columns)
    if len(payload) % (columns * WIRE[dtype].itemsize):
        return None
    return torch.frombuffer(bytearray(payload), dtype=WIRE[dtype]).view(-1, columns)


def _root(session: str, boundary: int, rows: Tensor, dtype: str, before: State | None) -> str:
    """Root over all rows, those ``before`` another node took over being known by their tree."""
    witness = Witness(session, boundary)
    if before is not None:
        witness = Witness.restored(session, boundary, before)
    for position, payload in enumerate(_payloads(rows)):
        witness.see(position, dtype, (rows.shape[1],), payload)
    return witness.tree.root.hex()


def _payloads(rows: Tensor) -> Iterator[memoryview]:
    whole = rows.contiguous().view(torch.uint8).numpy().data.cast("B")
    size_bytes = len(whole) // len(rows)
    return (whole[at : at + size_bytes] for at in range(0, len(whole), size_bytes))
