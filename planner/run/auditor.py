"""Auditor: computes the work of a stage in one session again, from the bytes that were signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor

from planner.receipts.audit import threshold, verdict
from planner.receipts.record import Audit, Receipt, Record, StageSeat, sign
from planner.receipts.tree import Witness
from planner.run.docket import Case
from planner.run.frames import Seat
from planner.run.model import Stage
from planner.run.notary import Evidence
from planner.run.reexecution import DISTANCE_LIMIT, GAP_LIMIT, Deviation, Passage, reexecute

WIRE: dict[str, torch.dtype] = {
    "int32": torch.int32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
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
    columns = stage.config.hidden_size
    forged = Deviation(DISTANCE_LIMIT, GAP_LIMIT if stage.last else None)
    entered = _rows(evidence.entered, evidence.entered_dtype, 1 if stage.first else columns)
    hidden = _rows(evidence.hidden, evidence.hidden_dtype, columns)
    if entered is None or hidden is None or not len(entered) == len(hidden) == receipt.count:
        return forged
    boundary = receipt.stage + 1
    wanted = receipt.root_hidden if stage.last else receipt.root_out
    if receipt.first and not stage.last:
        wanted = None  # another node sent the first of these rows; the next stage signed them
    roots = (
        (receipt.stage, entered, receipt.root_in),
        (boundary, hidden, wanted),
    )
    if any(root and _root(receipt.session, where, rows) != root for where, rows, root in roots):
        return forged
    tokens = torch.tensor(answer.tokens) if stage.last else None
    x = entered[:, 0] if stage.first else entered
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
    if len(payload) % (columns * WIRE[dtype].itemsize):
        return None
    return torch.frombuffer(bytearray(payload), dtype=WIRE[dtype]).view(-1, columns)


def _root(session: str, boundary: int, rows: Tensor) -> str:
    witness = Witness(session, boundary)
    dtype = next(name for name, known in WIRE.items() if known == rows.dtype)
    for position, payload in enumerate(_payloads(rows)):
        witness.see(position, dtype, (rows.shape[1],), payload)
    return witness.tree.root.hex()


def _payloads(rows: Tensor) -> Iterator[memoryview]:
    whole = rows.contiguous().view(torch.uint8).numpy().data.cast("B")
    size_bytes = len(whole) // len(rows)
    return (whole[at : at + size_bytes] for at in range(0, len(whole), size_bytes))
