from __future__ import annotations

from collections import Counter

import pytest
import torch

from planner.run.frames import Seat
from planner.run.sampling import pick

LOGITS = torch.tensor([[0.1, 0.6, 0.3]]).log()


def drawn(temperature: float, top_p: float, count: int = 2000) -> Counter[int]:
    seats = [Seat(0, position, temperature, top_p, seed=5) for position in range(count)]
    return Counter(pick(LOGITS.expand(count, -1), seats, 1).tolist())


def test_temperature_zero_takes_the_likeliest() -> None:
    assert drawn(0.0, 1.0, 5) == {1: 5}


def test_draws_follow_the_probabilities() -> None:
    counts = drawn(1.0, 1.0)
    for token, share in enumerate((0.1, 0.6, 0.3)):
        assert counts[token] / 2000 == pytest.approx(share, abs=0.04)


def test_temperature_sharpens() -> None:
    assert drawn(0.5, 1.0)[1] / 2000 == pytest.approx(0.36 / (0.01 + 0.36 + 0.09), abs=0.04)


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, {1}), (0.7, {1, 2}), (0.95, {0, 1, 2})])
def test_top_p_keeps_the_smallest_set_that_holds_it(top_p: float, kept: set[int]) -> None:
    assert set(drawn(1.0, top_p)) == kept


def test_a_draw_depends_on_the_sequence_only() -> None:
    seats = [Seat(slot, 10 + slot, 1.0, 1.0, seed=slot) for slot in range(6)]
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    together = pick(logits, seats, 1).tolist()
    backwards = pick(logits.flip(0), seats[::-1], 1).tolist()[::-1]
    alone = [int(pick(logits[i : i + 1], seats[i : i + 1], 1)) for i in range(6)]
    after_prompt = pick(logits[:1], [seats[0]._replace(position=0)], 11)
    assert together == backwards == alone
    assert int(after_prompt) == alone[0]
