"""Oversight: how a run is to be verified, by whom, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from planner.core.plan import Plan, Stage
from planner.receipts.record import Holder, StageSeat, Threshold, numeric_class
from planner.run.blobs import Pieces, list_pieces
from planner.run.checkpoint import open_checkpoint
from planner.run.crew import Post
from planner.run.docket import Tally

VERIFIERS = ("verifier-1", "verifier-2")
"""Who audits at the coordinator where a stage has fewer than two standbys."""


@dataclass(frozen=True, slots=True)
class Oversight:
    """How a run is verified."""

    folder: Path
    """Where the log goes; there must be none."""
    manifest: str
    """SHA-256 of the manifest file (hex)."""
    audit_share: float
    thresholds: Mapping[tuple[int, int, str], tuple[Threshold, ...]]
    """By layers and quantization of a stage."""


@dataclass(slots=True)
class Verified:
    """What verification of a run came to, and what it took."""

    tally: Tally
    log: Path
    receipts_s: float = 0.0
    """Time of all stages for hashing and signing."""
    worked_s: float = 0.0
    """Time of all stages for their own work, what they waited for a core left out."""
    audit_s: float = 0.0
    """Time of all verifiers for computing again."""
    audited: Counter[str] = field(default_factory=Counter)
    """Audits that were made of each stage, by the node that has it in the plan."""


def seats_of(plan: Plan, oversight: Oversight, checkpoint: Path) -> dict[Post, StageSeat]:
    """Every stage of a plan with who may answer for it and who may audit it."""
    seats, pieces = {}, list_pieces(open_checkpoint(checkpoint))
    for index, pipeline in enumerate(plan.pipelines):
        for number, stage in enumerate(pipeline.stages):
            standbys = [
                one.node
                for one in plan.standbys
                if (one.pipeline, one.stage) == (index, number) and one.node != stage.node
            ]
            numeric = numeric_class(stage)
            seats[index, number] = StageSeat(
                pipeline=index,
                stage=number,
                start=stage.start,
                stop=stage.stop,
                weights=weights_digest(pieces, stage),
                holders=tuple(
                    Holder(node=name, numeric=numeric)
                    for name in dict.fromkeys((stage.node, *standbys, *VERIFIERS))
                ),
                thresholds=oversight.thresholds[stage.start, stage.stop, stage.quant],
            )
    return seats


def weights_digest(pieces: Pieces, stage: Stage) -> str:
    """What stands for the weights of a stage: SHA-256 over those of its pieces (hex)."""
    needed = pieces.needed([(stage.start, stage.stop)])
    return sha256("\n".join(f"{one.name} {one.digest}" for one in needed).encode()).hexdigest()
