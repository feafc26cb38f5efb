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
"""Generated positions below which a mean says too little."""


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
    """Mean over the generated positions of |y - y_ref| / |y_ref - x|."""
    token_gap: float | None
    """Mean over the tokens of the score they miss to be picked, clipped; on the last stage."""


def reexecute(stage: Stage, passage: Passage) -> Deviation:
    """Compares a passage with one prefill of ``stage`` over the same inputs.

    The norm of what the stage adds to its input is the yardstick: noise of kernels is a small
    part of it at any depth, whatever the scale of the residual stream. Raises ValueError if the
    stage's cache is too small or too few tokens were generated to tell.
    """
    positions = passage.x.shape[0]
    if positions > stage.cache.slot_tokens:
        raise ValueError(f"a cache of {stage.cache.slot_tokens} tokens cannot hold {positions}")
    if positions - passage.prompt_tokens < LEAST_TOKENS:
        raise ValueError(f"fewer than {LEAST_TOKENS} generated positions tell too little")
    x = passage.x.to(stage.device)
    expected = stage.prefill_hidden(x, 0)
    generated = slice(passage.prompt_tokens, positions)
    entered = stage.residual(x)[generated].double()
    wanted = expected[generated].double()
    off = passage.y.to(stage.device)[generated].double() - wanted
    relative = off.norm(dim=-1) / (wanted - entered).norm(dim=-1).clamp_min(1e-30)
    distance = float(relative.mean())
    if not math.isfinite(distance):
        distance = DISTANCE_LIMIT
    return Deviation(min(distance, DISTANCE_LIMIT), _token_gap(stage, expected, passage))


def _token_gap(stage: Stage, expected: Tensor, passage: Passage) -> float | None:
    if passage.tokens is None:
        return None
    logits = stage.logits(expected[passage.prompt_tokens - 1 :])
    gaps = []
    for row, token in enumerate(passage.tokens.tolist()):
        found = scores(logits[row], passage.seat, passage.prompt_tokens + row)
        gaps.append(min(GAP_LIMIT, float(found.max() - found[token])))
    return math.fsum(gaps) / len(gaps)
