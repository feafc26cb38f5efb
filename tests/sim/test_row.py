"""Rows of steps, and where they are cut."""

from __future__ import annotations

import itertools
import random
import statistics

from hypothesis import given
from hypothesis import strategies as st

from planner.sim.pace import Piece
from planner.sim.row import Row


def row(rounds: int, step_s: float, growth_s: float = 0.0, jitter_s: float = 0.0) -> Row:
    piece = Piece(1, 0, 1e9, (), (), step_s, growth_s)
    made = Row(0.0, rounds, step_s, growth_s, jitter_s, piece=piece)
    made.ends_s = made.after(rounds)
    return made


@given(
    rounds=st.integers(1, 2000),
    step_s=st.floats(1e-4, 1.0),
    growth=st.floats(0, 0.1),
    share=st.floats(0.001, 1),
)
def test_a_row_is_cut_at_the_first_step_that_ends_no_sooner(
    rounds: int, step_s: float, growth: float, share: float
) -> None:
    made = row(rounds, step_s, growth * step_s)
    now_s = share * made.ends_s
    single_s = [step_s + number * growth * step_s for number in range(rounds)]
    made.cut(now_s, itertools.repeat(0.0))
    before_s = sum(single_s[: made.rounds - 1])
    assert before_s - 1e-9 * now_s <= now_s <= before_s + single_s[made.rounds - 1] * (1 + 1e-9)


def test_an_arrival_waits_as_long_for_the_end_of_a_varying_step_as_renewal_theory_says() -> None:
    """The mean of the rest of a step is E(X^2) / (2 E(X)) for an arrival at a random time."""
    rng = random.Random(5)
    step_s, jitter_s = 1.0, 0.3
    waits_s = []
    for _ in range(20_000):
        made = row(60, step_s + jitter_s * rng.gauss(0, 1) / 60**0.5, jitter_s=jitter_s)
        now_s = rng.uniform(20, 40)
        made.cut(now_s, iter(lambda: rng.gauss(0, 1), None))
        waits_s.append(made.ends_s - now_s)
    expected_s = (step_s**2 + jitter_s**2) / (2 * step_s)
    error_s = statistics.stdev(waits_s) / len(waits_s) ** 0.5
    assert abs(statistics.fmean(waits_s) - expected_s) < 3 * error_s
