"""Drafter: a small model at the coordinator that guesses what the large one will say."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch

from planner.core.cost.batch import Batch
from planner.run.checkpoint import Checkpoint
from planner.run.drafts import Wish
from planner.run.frames import Seat
from planner.run.linear import Kernels
from planner.run.model import CacheShape, Span, Stage
from planner.run.rehearsal import held_tokens
from planner.run.sampling import pick

_WARM_TOKENS = 16
_PACES = 7
"""Steps of each kind that are timed."""


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
        self._first_slot, self._most_seats = [0, *accumulate(seats)], max(seats)
        self._known: dict[int, tuple[int, list[int]]] = {}
        """By slot of the cache: session and tokens, of which the last one may not be in it yet."""
        self.steps = 0
        self._warm_up(self._most_seats)

    def guess(
        self, pipeline: int, wishes: Sequence[Wish], halt: Callable[[], bool] = lambda: False
    ) -> list[list[int]]:
        """Up to as many tokens as wished for each sequence, those of all in one step each.

        ``halt`` is asked before every step.
        """
        guessed = [self._recalled(pipeline, wish) for wish in wishes]
        going = [n for n, wish in enumerate(wishes) if len(guessed[n]) < wish.most]
        while going and not halt():
            texts = [wishes[number].ids + guessed[number] for number in going]
            spans = [
                self._missing(pipeline, wishes[number], text)
                for number, text in zip(going, texts, strict=True)
            ]
            rows = [t for text, span in zip(texts, spans, strict=True) for t in text[span[1] :]]
            last = [end - 1 for end in accumulate(tokens for _, _, tokens in spans)]
            y = self._stage.hidden(torch.tensor(rows, device=self._stage.device), spans)[last]
            places = [self._place(wishes[n], text) for n, text in zip(going, texts, strict=True)]
            picked: list[int] = pick(self._stage.logits(y), places, 1).tolist()
            for number, text, token in zip(going, texts, picked, strict=True):
                guessed[number].append(token)
                self._know(pipeline, wishes[number], [*text, token])
            self.steps += 1
            going = [number for number in going if len(guessed[number]) < wishes[number].most]
        return guessed

    def read(self, pipeline: int, wish: Wish) -> bool:
        """Computes what the cache lacks of a prompt, and guesses what comes first."""
        self.guess(pipeline, [wish._replace(most=1)])
        return True

    def paces(self) -> dict[Batch, float]:
        """What steps take right now (s), by batch: a prompt, and a guess for each seat.

        It leaves nothing that a session would count on.
        """
        seats, tokens = self._most_seats, held_tokens(self._stage.cache.slot_tokens)
        found: dict[Batch, float] = {}
        for count, batch in ((0, Batch.prefill(tokens)), (1, Batch.decode(seats, seats * tokens))):
            taken_s = []
            for turn in range(_PACES):
                self._known.clear()
                wishes = [Wish([turn] * tokens, 1 + count, Seat(s, 0)) for s in range(seats)]
                if count:
                    self.guess(0, [wish._replace(most=1) for wish in wishes])
                began_s = time.monotonic()
                self.guess(0, wishes if count else wishes[:1])
                taken_s.append(time.monotonic() - began_s)
            found[batch] = statistics.median(taken_s)
        self._known.clear()
        return found

    def _recalled(self, pipeline: int, wish: Wish) -> list[int]:
        """What was guessed before of what is wished for."""
        slot = self._first_slot[pipeline] + wish.seat.slot
        session, known = self._known.get(slot, (-1, []))
        length = len(wish.ids)
        same = session == wish.seat.session and known[:length] == wish.ids
        return known[length : length + wish.most] if same else []

    def _missing(self, pipeline: int, wish: Wish, text: list[int]) -> Span:
        """The tokens from the first one on that the cache does not hold, the last one at least."""
        slot = self._first_slot[pipeline] + wish.seat.slot
        session, known = self._known.get(slot, (-1, []))
        same = min(len(known), len(text)) - 1 if session == wish.seat.session else 0
        while known[:same] != text[:same]:
            same -= 1
        return slot, same, len(text) - same

    def _know(self, pipeline: int, wish: Wish, text: list[int]) -> None:
        self._known[self._first_slot[pipeline] + wish.seat.slot] = (wish.seat.session, text)

    def _place(self, wish: Wish, text: Sequence[int]) -> Seat:
        """Where the next guess stands, for the random numbers that belong there."""
        return wish.seat._replace(position=len(text) - 1)

    def _warm_up(self, seats: int) -> None:
        """Steps of the sizes to come, so that the first request does not pay for one-time work."""
        tokens = min(_WARM_TOKENS, self._stage.cache.slot_tokens - 2)
        for count in range(1, seats + 1):
            wishes = [Wish([0] * tokens, 2, Seat(slot, 0)) for slot in range(count)]
            self._known.clear()
            self.guess(0, wishes)
        self._known.clear()
