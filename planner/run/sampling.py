"""Picks the next token of each sequence from its logits."""

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
            uniform = stream(seat.seed, "token", seat.position + new_tokens).random()
            picked[row] = _draw(logits[row], seat.temperature, seat.top_p, uniform)
    return picked


def _draw(logits: Tensor, temperature: float, top_p: float, uniform: float) -> int:
    """One draw from the smallest set of likeliest tokens that holds ``top_p`` of the weight.

    Nucleus sampling (arXiv 1904.09751); ``uniform`` in [0, 1) is looked up in the cumulative sum.
    """
    weights, tokens = torch.sort((logits.double() / temperature).softmax(-1), descending=True)
    before = weights.cumsum(0) - weights
    weights[before >= top_p] = 0.0
    cumulative = weights.cumsum(0)
    index = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    return int(tokens[min(index, len(tokens) - 1)])
