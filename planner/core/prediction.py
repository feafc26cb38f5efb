"""Prediction: what the cost model says about a plan, broken down to stages and hops."""

from __future__ import annotations

from pydantic import Field

from planner.core.cost.ledger import CostLine
from planner.core.cost.verification import VerificationCost
from planner.core.metrics import Metrics
from planner.core.spec import Spec
from planner.core.trust import New, Regime


class StagePrediction(Spec):
    """One stage: its step times by cause and its memory by use."""

    node: str
    start: int
    stop: int
    quant: str
    prefill_s: dict[str, float]
    """Seconds of one prompt by cause."""
    decode_s: dict[str, float]
    """Seconds of one decode step of the expected batch by cause."""
    memory_bytes: dict[str, float]
    """Bytes by use."""
    capacity_bytes: float
    """Memory the engine may use on the node."""


class HopPrediction(Spec):
    """One hop of a decode step and of a prompt."""

    src: str
    dst: str
    decode_s: dict[str, float]
    prefill_s: dict[str, float]
    usd_per_hour: float = 0.0
    """Egress at the predicted load."""


class PipelinePrediction(Spec):
    """One pipeline at the expected load."""

    stages: tuple[StagePrediction, ...]
    hops: tuple[HopPrediction, ...]
    batch: float
    """Sequences in an expected decode step."""
    metrics: Metrics
    limited_by: str
    """What keeps it from being faster, in words."""
    prefix_found: float | None = None
    """Share of a prompt that is expected in the cache; None where no prompt has a prefix."""
    prefill_overlap_s: float = 0.0
    """What a prompt saves because places are busy with different chunks of it at once."""
    waits_s: float = 0.0
    """What each job waits at the coordinator for those of other pipelines."""
    lost_s: dict[str, float] = Field(default_factory=dict)
    """Seconds of an hour in which it serves no good request, by cause: ``away`` while a stage has
    no node, ``recovering`` while a loss is noticed and made good, ``late`` for requests under way
    then, ``overloaded`` where more comes than it can serve when it is there."""


class Prediction(Spec):
    """The whole plan at the expected load."""

    metrics: Metrics
    pipelines: tuple[PipelinePrediction, ...]
    cost_usd_per_hour: dict[str, float]
    """By part; the parts sum to ``metrics.usd_per_hour``."""
    cost_lines: tuple[CostLine, ...] = ()
    """The same by cause and place."""
    verification: VerificationCost | None = None
    """What audits come to; None where nodes are taken at their word."""
    quality: float | None
    """Share of the unquantised quality kept by the worst stage; None where unknown."""
    tier: int
    """Lowest calibration tier of any stage: 0 datasheet, 1 whole steps, 2 kernel points."""
    error_band: dict[str, float] | None = None
    """Median and p90 error of such predictions on data they were not fitted to: the wider one of
    ``error_bands``, where there are any."""
    new: New | None = None
    """What was not measured of the stage that is the furthest off; None as in Trust."""
    error_bands: dict[Regime, dict[str, float]] = Field(default_factory=dict)
    """The same of prompts and of later tokens: of each the widest band of any stage."""
    warnings: tuple[str, ...] = ()
