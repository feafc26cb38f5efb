"""Picks the next token of each sequence, so that anyone with the logits can pick it again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planner.core.rng import stream
from planner.run.frames import Seat


def pick(logits: Tensor, seats: Sequence[Seat], new_tokens: int) -> Tensor:
    """Token ids [B] (int32, on the CPU) from logits [B, vocabulary].

    A draw depends on the sequence's own seed and on the place of the token in it only: neither
    the batch nor a restart changes what is drawn. ``new_tokens`` were computed per sequence.
    """
    picked = logits.argmax(-1).to("cpu", torch.int32)
    for row, seat in enumerate(seats):
        if seat.temperature > 0:
            picked[row] = int(scores(logits[row], seat, seat.position + new_tokens).argmax())
    return picked


def scores(logits: Tensor, seat: Seat, place: int) -> Tensor:
    """Scores [vocabulary] whose largest is the token at ``place`` of a sequence.

    The logits themselves without a temperature. With one, the Gumbel-max trick: logits over the
    temperature plus seeded Gumbel noise, whose largest entry is distributed as the softmax
    (Gumbel 1954). A little noise in the logits then moves scores by a little, which a cumulative
    sum would not do. Tokens outside the nucleus (arXiv 1904.09751) score minus infinity.
    """
    if seat.temperature <= 0:
        return logits.float()
    scaled = logits.double().cpu() / seat.temperature
    generator = torch.Generator().manual_seed(stream(seat.seed, "token", place).getrandbits(63))
    uniform = torch.rand(scaled.shape[0], generator=generator, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform.clamp_min(torch.finfo(torch.float64).tiny)))
    if seat.top_p < 1:
        weights, tokens = torch.sort(scaled.softmax(-1), descending=True)
        scaled[tokens[weights.cumsum(0) - weights >= seat.top_p]] = -torch.inf
    return scaled + noise
