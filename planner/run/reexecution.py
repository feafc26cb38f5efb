"""Re-execution: computes a stage of a session again and says how far the results are apart.

Inputs are exact, because both neighbours signed them; only what happens inside a stage is judged
with a tolerance, which is why distances of honest and of other weights differ so much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from planner.run.frames import Seat
from planner.run.model import Stage
from planner.run.sampling import scores

GREEDY = Seat(0, 0)
GAP_LIMIT = 3.0
"""Logit gaps are clipped here: one token that is far off must not outweigh all others."""
DISTANCE_LIMIT = 1e6
"""Stands for distances that are no number: outputs with NaN or infinity in them."""
LEAST_TOKENS = 16
"""Positions that a mean is over at least: the prompt's last ones where fewer were generated."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What went through one stage in one session of P prompt and G output tokens."""

    x: Tensor
    """Into the stage: token ids [P + G - 1] or hidden states [P + G - 1, H]."""
    y: Tensor
    """Out of its last layer: hidden states [P + G - 1, H]."""
    prompt_tokens: int
    tokens: Tensor | None = None
    """Output tokens [G], from the last stage."""
    seat: Seat = GREEDY
    """How tokens were picked."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a passage is from what a verifier computes."""

    distance: float
    """Mean over positions of |y - y_ref| / |y_ref - x|."""
    token_gap: float | None
    """Mean over the tokens of the score they miss to be picked, clipped; on the last stage."""


def reexecute(stage: Stage, passage: Passage, answers_from: int = 0) -> Deviation:
    """Compares a passage with one prefill of ``stage`` over the same inputs.

    The norm of what the stage adds to its input is the yardstick: noise of kernels is a small
    part of it at any depth, whatever the scale of the residual stream. Positions from
    ``answers_from`` on count: those before are another node's work. Raises ValueError if the
    stage's cache is too small.
    """
    positions = passage.x.shape[0]
    if positions > stage.cache.slot_tokens:
        raise ValueError(f"a cache of {stage.cache.slot_tokens} tokens cannot hold {positions}")
    x = passage.x.to(stage.device)
    expected = stage.prefill_hidden(x, 0)
    start = min(passage.prompt_tokens, max(0, positions - LEAST_TOKENS))
    generated = slice(min(max(start, answers_from), positions - 1), positions)
    entered = stage.residual(x)[generated].double()
    wanted = expected[generated].double()
    off = passage.y.to(stage.device)[generated].double() - wanted
    relative = off.norm(dim=-1) / (wanted - entered).norm(dim=-1).clamp_min(1e-30)
    distance = float(relative.mean())
    if not math.isfinite(distance):
        distance = DISTANCE_LIMIT
    gap = _token_gap(stage, expected, passage, answers_from)
    return Deviation(min(distance, DISTANCE_LIMIT), gap)


def _token_gap(stage: Stage, expected: Tensor, passage: Passage, answers_from: int) -> float | None:
    if passage.tokens is None:
        return None
    skipped = min(max(0, answers_from - passage.prompt_tokens + 1), len(passage.tokens) - 1)
    logits = stage.logits(expected[passage.prompt_tokens - 1 + skipped :])
    gaps = []
    for row, token in enumerate(passage.tokens[skipped:].tolist()):
        found = scores(logits[row], passage.seat, passage.prompt_tokens + skipped + row)
        gaps.append(min(GAP_LIMIT, float(found.max() - found[token])))
    return math.fsum(gaps) / len(gaps)
