"""Price of audits: what it costs to compute a stage of a session again elsewhere."""

from __future__ import annotations

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
