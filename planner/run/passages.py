"""Passages of sessions through stages in this process: what calibrating audits works on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from planner.run.frames import Seat
from planner.run.model import Stage
from planner.run.reexecution import Passage
from planner.run.sampling import pick


def generate(
    stages: Sequence[Stage], prompts: Sequence[list[int]], output_tokens: int, temperature: float
) -> list[list[Passage]]:
    """Passages by session and stage, of prompts of one length decoded as one batch."""
    seats = [Seat(slot, 0, temperature, 1.0, slot) for slot in range(len(prompts))]
    length = len(prompts[0])
    entered: list[list[Tensor]] = [[] for _ in stages]
    left: list[list[Tensor]] = [[] for _ in stages]
    x = torch.tensor(prompts)  # [B, P], then [B, 1] or [B, 1, H]
    tokens: list[Tensor] = []
    for step in range(output_tokens):
        for index, stage in enumerate(stages):
            entered[index].append(x)
            x = _prefill(stage, x) if step == 0 else _decode(stage, x, length + step - 1)
            left[index].append(x)
        logits = stages[-1].logits(x[:, -1])
        place = length if step == 0 else 1
        held = 0 if step == 0 else length + step - 1
        tokens.append(pick(logits, [seat._replace(position=held) for seat in seats], place))
        x = tokens[-1][:, None]
    made = []
    for row, seat in enumerate(seats):
        made.append(
            [
                Passage(
                    torch.cat([part[row] for part in entered[index]]),
                    torch.cat([part[row] for part in left[index]]),
                    length,
                    torch.stack(tokens)[:, row] if stage.last else None,
                    seat,
                )
                for index, stage in enumerate(stages)
            ]
        )
    return made


def decode_again(stage: Stage, passages: Sequence[Passage]) -> list[Passage]:
    """What ``stage`` makes of the inputs of passages of one length, decoded step by step."""
    length = passages[0].prompt_tokens
    x = torch.stack([passage.x for passage in passages])
    parts = [_prefill(stage, x[:, :length])]
    for position in range(length, x.shape[1]):
        parts.append(_decode(stage, x[:, position : position + 1], position))
    y = torch.cat(parts, 1)
    made = []
    for row, passage in enumerate(passages):
        tokens = None
        if passage.tokens is not None:
            logits = stage.logits(y[row, length - 1 :])
            places = [
                passage.seat._replace(position=length - 1 + step) for step in range(len(logits))
            ]
            tokens = pick(logits, places, 1)
        made.append(Passage(passage.x, y[row], length, tokens, passage.seat))
    return made


def _prefill(stage: Stage, x: Tensor) -> Tensor:
    """Hidden states [B, P, H] of whole prompts, one sequence after the other."""
    return torch.stack([stage.prefill_hidden(prompt, slot) for slot, prompt in enumerate(x)])


def _decode(stage: Stage, x: Tensor, held: int) -> Tensor:
    """Hidden states [B, 1, H] after one more position of each sequence."""
    slots = range(x.shape[0])
    return stage.decode_hidden(x[:, 0], slots, [held] * len(slots))[:, None]
