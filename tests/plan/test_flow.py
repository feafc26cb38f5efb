"""Flows through overlapping layer ranges: exact, bounded from above, and found by the search."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.helix_clusters import read_cluster, read_placement
from planner.plan.anneal import annealed
from planner.plan.cover import flow_bound
from planner.plan.flow import FlowProblem, Windows, flow_value, greatest_flow, windows_of
from planner.plan.flowsearch import place

DATA = Path(os.environ.get("PLANNER_TEST_DATA", "../shared/data")) / "helix"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not here")

PUBLISHED = {"single24": 1289.5558, "geo24": 1212.1768, "het42": 4137.5475}
WANTED = {"single24": 1476.0, "geo24": 1500.0, "het42": 5400.0}


def small(rates: list[list[float]], layers: int, line: float = 1e6) -> FlowProblem:
    count, width = len(rates), 1 + max(map(len, rates))
    table = np.zeros((count, width))
    for node, row in enumerate(rates):
        table[node, 1 : 1 + len(row)] = row
    wide = np.full(count, 1e6)
    return FlowProblem(layers, table, wide, wide, np.full((count, count), line))


def drawn(rng: random.Random) -> FlowProblem:
    layers = rng.randint(2, 4)
    rates = []
    for _ in range(rng.randint(2, 4)):
        first = rng.choice([6.0, 10.0, 24.0])
        rates.append([first / held**1.2 for held in range(1, rng.randint(1, layers) + 1)])
    return small(rates, layers, rng.choice([5.0, 1e6]))


def every_placement(problem: FlowProblem) -> itertools.product[tuple[tuple[int, int], ...]]:
    choices = [
        [(at, at + held) for held in range(1, most + 1) for at in range(problem.layers - held + 1)]
        for most in problem.most_layers
    ]
    return itertools.product(*choices)


def test_a_token_enters_a_window_where_the_one_before_ended() -> None:
    problem = small([[0, 0, 10.0], [0, 0, 8.0], [5.0]], 4)
    assert flow_value(problem, windows_of([(0, 3), (1, 4), (0, 0)])) == pytest.approx(8.0)
    assert flow_value(problem, windows_of([(0, 3), (0, 3), (3, 4)])) == pytest.approx(5.0)
    assert flow_value(problem, windows_of([(0, 3), (0, 3), (2, 3)])) == 0.0


def test_lines_limit_what_nodes_pass() -> None:
    problem = small([[10.0, 9.0], [10.0, 9.0], [10.0, 9.0]], 4, line=3.0)
    apart, alone = [(0, 2), (2, 4), (2, 4)], [(0, 2), (2, 4), (0, 0)]
    assert flow_value(problem, windows_of(apart)) == pytest.approx(6.0)
    assert flow_value(problem, windows_of(alone)) == pytest.approx(3.0)
    flow = greatest_flow(problem, windows_of(apart))
    assert flow.enter.tolist() == pytest.approx([6.0, 0.0, 0.0])
    assert flow.between[0].tolist() == pytest.approx([0.0, 3.0, 3.0])


@pytest.mark.parametrize("seed", range(8))
def test_no_placement_passes_the_bound_and_the_search_comes_near(seed: int) -> None:
    problem = drawn(random.Random(seed))
    best = max(flow_value(problem, windows_of(pairs)) for pairs in every_placement(problem))
    placed = place(problem, 0, 150)
    assert placed.bound >= best * (1 - 1e-8)
    assert placed.laid <= placed.value <= best * (1 + 1e-8)
    assert placed.value >= 0.9 * best


def test_the_search_is_the_same_for_the_same_seed_and_never_worse_than_its_start() -> None:
    problem = small([[12.0, 5.0, 3.0]] * 3 + [[30.0, 14.0, 9.0, 6.0]] * 2, 9)
    one, two = place(problem, 3, 200), place(problem, 3, 200)
    assert one.windows.tolist() == two.windows.tolist()
    start: Windows = windows_of([(0, 3), (3, 6), (6, 9), (0, 4), (5, 9)])
    _, value = annealed(problem, start, random.Random(1), 200)
    assert value >= flow_value(problem, start)


def test_groups_far_apart_have_a_row_each() -> None:
    problem = small([[12.0, 6.0]] * 4, 4, line=1e6)
    problem.between[:2, 2:] = problem.between[2:, :2] = 0.5
    placed = place(problem, 0, 50)
    assert placed.value == pytest.approx(12.0)
    assert placed.bound == pytest.approx(12.0, rel=0.01)
    assert sorted(placed.windows[:2].tolist()) == sorted(placed.windows[2:].tolist())


@needs_data
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_placements_give_their_published_values(name: str) -> None:
    cluster = read_cluster(DATA, name)
    value = flow_value(cluster.objective, read_placement(DATA, cluster))
    assert value == pytest.approx(PUBLISHED[name], abs=2e-4)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WANTED))
def test_the_search_beats_the_published_placements(name: str) -> None:
    placed = place(read_cluster(DATA, name).objective, 0, 500)
    assert WANTED[name] <= placed.value <= placed.bound
    assert flow_bound(read_cluster(DATA, name).objective) == placed.bound
