"""Drafter: a small model at the coordinator that guesses what the large one will say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from planner.run.checkpoint import Checkpoint
from planner.run.drafts import Wish
from planner.run.frames import Seat
from planner.run.linear import Kernels
from planner.run.model import CacheShape, Span, Stage
from planner.run.sampling import pick

_WARM_TOKENS = 16


class Drafter:
    """The whole model with a cache of its own, for the sequences of all pipelines.

    It picks as the last stage does, with the random numbers of the same places, so that answers
    with a temperature are guessed as well as greedy ones. Its cache holds guesses too; what turns
    out wrong is overwritten.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        quant: str,
        seats: Sequence[int],
        slot_tokens: int,
        *,
        device: str = "cpu",
        kernels: Kernels | None = None,
    ) -> None:
        """``seats`` are those of each pipeline, which hold ``slot_tokens`` each."""
        layers, shape = checkpoint.config.layers, CacheShape(sum(seats), slot_tokens)
        self._stage = Stage(checkpoint, 0, layers, quant, shape, device=device, kernels=kernels)
        self._first_slot = [0, *accumulate(seats)]
        self._held: dict[int, tuple[int, list[int]]] = {}
        """Session and tokens in each slot of the cache."""
        self._warm_up(max(seats))

    def guess(self, pipeline: int, wishes: Sequence[Wish]) -> list[list[int]]:
        """Up to as many tokens as wished for each sequence, those of all in one step each."""
        guessed: list[list[int]] = [[] for _ in wishes]
        going = [number for number, wish in enumerate(wishes) if wish.most > 0]
        if not going:
            return guessed
        spans, rows = [], []
        for number in going:
            span = self._missing(pipeline, wishes[number])
            spans.append(span)
            rows += wishes[number].ids[span[1] :]
        while going:
            last = [end - 1 for end in accumulate(tokens for _, _, tokens in spans)]
            y = self._stage.hidden(torch.tensor(rows, device=self._stage.device), spans)[last]
            places = [self._place(wishes[number], guessed[number]) for number in going]
            picked: list[int] = pick(self._stage.logits(y), places, 1).tolist()
            done, going, rows = list(zip(going, spans, picked, strict=True)), [], []
            spans = []
            for number, (slot, at, tokens), token in done:
                guessed[number].append(token)
                if len(guessed[number]) < wishes[number].most:
                    going.append(number)
                    spans.append((slot, at + tokens, 1))
                    rows.append(token)
        for wish, guesses in zip(wishes, guessed, strict=True):
            if guesses:
                self._hold(pipeline, wish, [*wish.ids, *guesses[:-1]])
        return guessed

    def read(self, pipeline: int, wish: Wish) -> None:
        """Computes what the cache lacks of a prompt."""
        span = self._missing(pipeline, wish)
        self._stage.hidden(torch.tensor(wish.ids[span[1] :], device=self._stage.device), [span])
        self._hold(pipeline, wish, wish.ids)

    def _missing(self, pipeline: int, wish: Wish) -> Span:
        """The tokens from the first one on that the cache does not hold, the last one at least."""
        slot = self._first_slot[pipeline] + wish.seat.slot
        session, held = self._held.get(slot, (-1, []))
        same = min(len(held), len(wish.ids) - 1) if session == wish.seat.session else 0
        while held[:same] != wish.ids[:same]:
            same -= 1
        return slot, same, len(wish.ids) - same

    def _hold(self, pipeline: int, wish: Wish, ids: list[int]) -> None:
        slot = self._first_slot[pipeline] + wish.seat.slot
        self._held[slot] = (wish.seat.session, list(ids))

    def _place(self, wish: Wish, guessed: Sequence[int]) -> Seat:
        """Where the next guess stands, for the random numbers that belong there."""
        return wish.seat._replace(position=len(wish.ids) + len(guessed) - 1)

    def _warm_up(self, seats: int) -> None:
        """Steps of the sizes to come, so that the first request does not pay for one-time work."""
        tokens = min(_WARM_TOKENS, self._stage.cache.slot_tokens - 2)
        for count in range(1, seats + 1):
            wishes = [Wish([0] * tokens, 2, Seat(slot, 0)) for slot in range(count)]
            self._held.clear()
            self.guess(0, wishes)
        self._held.clear()
