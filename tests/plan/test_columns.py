"""Columns: the linear program bounds the integer one, which is the best disjoint choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from planner.plan.columns import Columns
from planner.plan.limits import Limits


def limited(counts: list[float], *bounds: tuple[list[float], float]) -> Limits:
    takes = np.array([row for row, _ in bounds]).reshape(len(bounds), len(counts))
    return Limits(np.array(counts), takes, np.array([most for _, most in bounds]))


def random_columns(seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    columns = Columns(limited([1.0, 1.0, 1.0, 2.0, 1.0]), np.arange(5), replicas=2)
    for _ in range(12):
        kinds = rng.choice(5, size=int(rng.integers(1, 4)))
        cuts = tuple((int(kind), place, place + 1) for place, kind in enumerate(kinds))
        columns.add(cuts, float(rng.uniform(1, 9)) - 5)
    return columns


def best_by_hand(columns: Columns) -> float:
    best = np.inf
    for pair in itertools.combinations_with_replacement(columns.known.values(), 2):
        if (sum(one.used for one in pair) <= columns.limits.counts).all():
            best = min(best, sum(one.cost for one in pair))
    return best


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_best_and_the_linear_program_is_below(seed: int) -> None:
    columns = random_columns(seed)
    costs = {one.cuts: one.cost for one in columns.known.values()}
    picked, best = columns.chosen(), best_by_hand(columns)
    assert (picked is None) == np.isinf(best)
    told = columns.priced()
    assert (told.prices >= 0).all()
    if picked is not None:
        assert sum(costs[cuts] for cuts in picked) == pytest.approx(best)
        assert told.value <= best + 1e-9


def test_limits_over_all_pipelines_hold_and_have_prices() -> None:
    def four(*bounds: tuple[list[float], float]) -> Columns:
        columns = Columns(limited([1.0] * 4, *bounds), np.arange(4), replicas=2)
        for kind, cost in enumerate((-9.0, -8.0, -2.0, -1.0)):
            columns.add(((kind, 0, 1),), cost)
        return columns

    rents = [5.0, 1.0, 1.0, 1.0]
    assert four().chosen() == [((0, 0, 1),), ((1, 0, 1),)]
    assert four((rents, 2.0)).chosen() == [((1, 0, 1),), ((2, 0, 1),)]
    assert four((rents, 1.0)).chosen() is None
    bound = four((rents, 5.0))
    told, limits = bound.priced(), bound.limits
    assert told.prices[4] > 0  # a dollar more would let the dear one have a larger share
    least = min(one.cost + one.used @ limits.each(told.prices) for one in bound.known.values())
    dual = 2 * least - told.prices @ limits.all
    assert told.value == pytest.approx(dual)
    chosen = bound.chosen()
    assert chosen == [((1, 0, 1),), ((2, 0, 1),)]
    assert dual <= -10.0


def test_only_the_cheapest_of_equal_nodes_is_kept_and_reuse_can_be_dropped() -> None:
    columns = Columns(limited([1.0] * 2), np.arange(2), replicas=1)
    assert columns.add(((0, 0, 1), (1, 1, 2)), 3.0)
    assert not columns.add(((1, 0, 1), (0, 1, 2)), 4.0)
    assert columns.add(((1, 0, 1), (0, 1, 2)), 2.0)
    assert not columns.add(((0, 0, 2),), np.inf)
    assert columns.add(((0, 0, 1), (1, 1, 2), (0, 2, 3)), 1.0)
    columns.drop(lambda cuts: len(cuts) > 2)
    assert [one.cost for one in columns.known.values()] == [2.0]
    assert columns.priced(real=True).value == pytest.approx(2.0)


def test_pipelines_that_the_linear_program_takes_a_share_of_are_named() -> None:
    columns = Columns(limited([1.0] * 3), np.arange(3), replicas=1)
    again = ((0, 0, 1), (1, 1, 2), (0, 2, 3))
    columns.add(again, 1.0)
    other = ((2, 0, 3),)
    columns.add(other, 3.0)
    told = columns.priced()
    assert told.value == pytest.approx(2.0)
    assert set(told.picked) == {again, other}
    assert columns.priced(real=True).picked == [other]
