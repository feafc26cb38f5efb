"""Hops: arriving over lines that are looked at together costs what each line alone says."""

import numpy as np
import pytest

from planner.plan.costs import Array
from planner.plan.hops import Hops


def grouped(ways: int, groups: int, seed: int) -> tuple[Hops, Array]:
    """Lines between single nodes of some groups, and the same one by one [way, way]."""
    rng = np.random.default_rng(seed)
    group = np.append(np.arange(groups), rng.integers(0, groups, ways - groups))
    hop = rng.integers(1, 9, (groups, groups)).astype(float)[group][:, group]
    np.fill_diagonal(hop, np.inf)
    return Hops.of(hop, group, np.arange(ways)), hop


@pytest.mark.parametrize(("ways", "groups"), [(6, 3), (64, 20), (65, 20), (90, 5), (90, 90)])
@pytest.mark.parametrize("join", [np.add, np.maximum])
@pytest.mark.parametrize("seed", range(3))
def test_arriving_is_the_least_over_all_others(
    ways: int, groups: int, join: np.ufunc, seed: int
) -> None:
    hops, hop = grouped(ways, groups, seed)
    rng = np.random.default_rng(seed + 100)
    # whole numbers: many ties for the cheapest of a group
    here = rng.integers(0, 4, (3, ways + 1)).astype(float)
    here[:, -1] = np.inf
    here[rng.random(here.shape) < 0.3] = np.inf
    expected = join(here[:, :-1, None], hop).min(axis=1)
    assert np.array_equal(hops.arrive(here, join), expected)


def test_lines_from_and_to_single_ways_are_those_of_the_matrix() -> None:
    hops, hop = grouped(90, 7, 0)
    sources = np.array([3, 80, 4])
    assert np.array_equal(hops.leaving(sources), hop[sources])
    assert np.array_equal(hops.entering(80), hop[:, 80])
    assert np.array_equal(hops.dense, hop)
