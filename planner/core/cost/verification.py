"""Price and power of audits: what it costs to check nodes, and how soon a cheat is caught."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.core.cost.batch import Batch
from planner.core.cost.compute import Chip, stage_time
from planner.core.cost.transfer import hidden_payload_bytes
from planner.core.model import ModelSpec
from planner.core.quant import QuantScheme


@dataclass(frozen=True, slots=True)
class AuditCost:
    """What one audit of one stage for one session takes."""

    compute_s: float
    """Time of the verifier: the stage once more, as one prefill over all positions."""
    traffic_bytes: float
    """Inputs and outputs of the stage, which the verifier fetches."""


def audit_cost(
    model: ModelSpec,
    start: int,
    stop: int,
    quant: QuantScheme,
    chip: Chip,
    prompt_tokens: float,
    output_tokens: float,
) -> AuditCost:
    """Cost of computing layers ``[start, stop)`` of a session again on another node.

    The last output token never goes through the stage, hence one position less.
    """
    positions = prompt_tokens + output_tokens - 1
    again = stage_time(model, start, stop, quant, chip, Batch.prefill(positions))
    ends = (start == 0) + (stop == model.num_hidden_layers)
    fetched_bytes = (2 - ends) * hidden_payload_bytes(model, quant, positions)
    return AuditCost(again.total_s, fetched_bytes)


def session_s(
    model: ModelSpec,
    start: int,
    stop: int,
    quant: QuantScheme,
    chip: Chip,
    prompt_tokens: float,
    output_tokens: float,
    batch: float,
) -> float:
    """Time of a stage that one session of a batch of ``batch`` equal ones accounts for (s).

    The share of an audit in it grows with the batch: sequences share the reading of the weights,
    audits do not make it cheaper.
    """
    prefill = stage_time(model, start, stop, quant, chip, Batch.prefill(prompt_tokens))
    middle = prompt_tokens + output_tokens / 2
    step = stage_time(model, start, stop, quant, chip, Batch.decode(batch, batch * middle))
    return prefill.total_s + (output_tokens - 1) * step.total_s / batch


def detection(
    audit_probability: float, cheating_share: float, power: float, sessions: float
) -> float:
    """Probability that a node which cheats in a share of its sessions is caught within some.

    1 - (1 - p f b)^n with p the probability that a session is audited, f the share of sessions
    that are cheated in and b the probability that one audit of such a session rejects it.
    """
    return -math.expm1(
        sessions * math.log1p(-_per_session(audit_probability, cheating_share, power))
    )


def sessions_until_caught(
    caught: float, audit_probability: float, cheating_share: float, power: float
) -> float:
    """Sessions until a cheat is caught with probability ``caught``; infinite without audits."""
    rate = _per_session(audit_probability, cheating_share, power)
    return math.log1p(-caught) / math.log1p(-rate) if rate else math.inf


def audit_probability_for(
    caught: float, sessions: float, cheating_share: float, power: float
) -> float | None:
    """Smallest audit probability that catches a cheat within some sessions; None if none does."""
    needed = -math.expm1(math.log1p(-caught) / sessions) / (cheating_share * power)
    return needed if needed <= 1 else None


def deterring_probability(gain_usd: float, loss_usd: float, power: float) -> float:
    """Audit probability above which cheating does not pay.

    A cheat saves ``gain_usd`` in a session that is not caught and loses ``loss_usd`` (future
    earnings, deposit) in one that is: G (1 - p b) < p b S, so p > G / (G + S) / b.
    """
    return gain_usd / (gain_usd + loss_usd) / power


def _per_session(audit_probability: float, cheating_share: float, power: float) -> float:
    rate = audit_probability * cheating_share * power
    return min(rate, math.nextafter(1.0, 0.0))
