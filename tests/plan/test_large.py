"""Chains: their plans are plans, their bounds are bounds."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.worlds import world as random_cluster
from planner.core.cluster import Node
from planner.core.problem import Problem
from planner.core.requirements import Requirements
from planner.core.workload import Closed, Fixed, Poisson, Workload
from planner.plan.chain import Lengths, cheapest, cheapest_each
from planner.plan.classes import allowed_nodes, few_apart, node_classes
from planner.plan.columns import Known
from planner.plan.costs import lines
from planner.plan.distinct import _least, distinct
from planner.plan.floor import floor
from planner.plan.hops import Hops
from planner.plan.infeasible import NoPlanError
from planner.plan.large import Large
from planner.plan.memory import Memory
from planner.plan.promise import admissible, as_cost
from planner.plan.room import overfull
from planner.plan.solve import solve
from planner.plan.structure import Best
from planner.plan.survey import surveyed
from tests.core.world import device, model, problem
from tests.plan.worlds import problems

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def check_against_exact(world: Problem) -> None:
    try:
        optimum = as_cost(world, solve(world, equal_weights=True, explain=False).value)
    except NoPlanError:
        optimum = np.inf
    if not allowed_nodes(world):
        return
    found = [one.best for one in surveyed(world)]
    slack = 1e-9 * abs(optimum) if np.isfinite(optimum) else 0.0
    assert min(best.bound for best in found) <= optimum + slack
    for best in found:
        assert best.cost >= optimum - slack
        if best.plan is not None and best.prediction is not None:
            assert not overfull(world, best.plan)
            assert admissible(world, best.plan, best.prediction)


@settings(RELAXED, max_examples=30)
@given(problems())
def test_bounds_hold_and_plans_do_not_beat_the_optimum(world: Problem) -> None:
    check_against_exact(world)


@pytest.mark.slow
@settings(RELAXED, max_examples=150)
@given(problems(bounds=True))
def test_bounds_hold_under_must_haves_many_times(world: Problem) -> None:
    check_against_exact(world)


def random_lengths(seed: int) -> Lengths:
    rng = np.random.default_rng(seed)
    classes, layers = 4, 5
    stage = rng.uniform(1, 2, (layers + 1, layers + 1, classes))
    for stop, start in itertools.product(range(layers + 1), repeat=2):
        stage[stop, start] *= stop - start if 0 < stop - start <= 2 else np.inf
    stage[np.isnan(stage)] = np.inf
    hop = rng.uniform(0, 3, (classes, classes))
    np.fill_diagonal(hop, np.inf)
    each = np.arange(classes)
    ends = rng.uniform(0, 1, classes), rng.uniform(0, 1, classes)
    return Lengths(stage, each, each, np.zeros(classes), Hops.of(hop, each, each), *ends)


def chains(given: Lengths) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All that use no class twice: the classes in their order, and where their stages end."""
    layers, classes = given.table.shape[0] - 1, given.table.shape[2]
    for size in range(1, classes + 1):
        for order in itertools.permutations(range(classes), size):
            for cuts in itertools.combinations(range(1, layers), size - 1):
                yield order, (0, *cuts, layers)


def every_chain(given: Lengths, prices: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Least length of all chains that use no class twice."""
    best = np.inf
    for order, ends in chains(given):
        total = given.enter[order[0]] + given.leave[order[-1]] + prices[list(order)].sum()
        total += sum(given.table[ends[i + 1], ends[i], kind] for i, kind in enumerate(order))
        total += sum(given.hops.between[a, b] for a, b in itertools.pairwise(order))
        best = min(best, float(total))
    return best


@pytest.mark.parametrize(("columns", "width"), [(40, 1), (40, 7), (40, 30), (7, 7), (1, 1)])
def test_the_least_labels_are_those_of_a_stable_sort(columns: int, width: int) -> None:
    rng = np.random.default_rng(columns + width)
    values = rng.choice([0.0, 1e-9, 0.25, 3.0, 7e5, np.inf], (5, columns))
    order = np.argsort(values, axis=1, kind="stable")[:, :width]
    assert np.array_equal(_least(values, width), order)


@pytest.mark.parametrize("seed", range(8))
def test_chains_that_remember_every_node_are_optimal(seed: int) -> None:
    given, prices = random_lengths(seed), np.linspace(0.0, 0.5, 4)
    optimum = every_chain(given, prices)
    assert cheapest(given, prices).length <= optimum + 1e-12
    greedy = distinct(given, prices, np.ones(4), width=4)
    assert greedy
    for chain in greedy:
        assert len({kind for kind, *_ in chain}) == len(chain)
    every = np.arange(4)
    memory = Memory(every, np.ones(4, np.bool_), most=3)
    memory.near = {kind: tuple(np.delete(every, kind).tolist()) for kind in range(4)}
    whole = cheapest(given, prices, memory)
    assert whole.length == pytest.approx(optimum)
    assert whole.used.max() == 1
    assert [cut[1] for cut in whole.cuts[1:]] == [cut[2] for cut in whole.cuts[:-1]]
    both = cheapest_each(given, np.stack([0 * prices, prices]), memory, ends=2)
    assert both[1][0].cuts == whole.cuts
    assert both[0][0].length == pytest.approx(every_chain(given, 0 * prices))
    for first, *others in both:
        for other in others:
            assert other.length >= first.length
            assert other.cuts[-1][0] != first.cuts[-1][0]


@pytest.mark.parametrize("seed", range(8))
def test_chains_that_learn_their_cycles_come_to_the_optimum_from_below(seed: int) -> None:
    given, prices = random_lengths(seed), np.linspace(0.0, 0.5, 4)
    optimum, memory = every_chain(given, prices), Memory(np.arange(4), np.ones(4, np.bool_), 3)
    chain = cheapest(given, prices, memory)
    while memory.learn(chain.cuts):
        assert memory.forbids(chain.cuts)
        before, chain = chain, cheapest(given, prices, memory)
        assert before.length - 1e-12 <= chain.length <= optimum + 1e-12
    assert chain.used.max() == 1
    assert chain.length == pytest.approx(optimum)


def test_a_memory_without_room_learns_nothing_and_several_alike_are_not_remembered() -> None:
    again = ((0, 0, 1), (1, 1, 2), (0, 2, 3))
    full = Memory(np.arange(2), np.ones(2, np.bool_), most=0)
    assert not full.learn(again)
    assert not full.forbids(again)
    several = Memory(np.arange(2), np.array([False, True]), most=2)
    assert not several.learn(again)
    stayed = Memory(np.arange(2), np.array([True, False]), most=5)
    assert stayed.learn([(0, 0, 1), *((1, k, k + 1) for k in range(1, 9)), (0, 9, 10)])
    assert stayed.near == {1: (0,)}  # remembered once, however often the chain came by
    one = Memory(np.arange(2), np.ones(2, np.bool_), most=1)
    assert one.learn(again)
    assert one.near == {1: (0,)}
    assert one.forbids(again)
    assert not one.forbids(((0, 0, 1), (1, 1, 2)))


@given(
    st.lists(st.floats(0.1, 2.0), min_size=2, max_size=3),
    st.lists(st.floats(0.0, 3.0), min_size=3, max_size=3),
    st.floats(1.0, 20.0),
)
def test_the_floor_is_below_the_cost_everywhere_above_the_plane(
    weights: list[float], spread: list[float], total: float
) -> None:
    low = [1.0] * len(weights)

    def cost(point: object) -> float:
        values = list(point)  # type: ignore[call-overload]
        return float(sum(value**0.5 for value in values) + max(values))

    point = [1.0 + more for more in spread[: len(weights)]]
    reached = sum(weight * value for weight, value in zip(weights, point, strict=True))
    if reached >= total:
        assert floor(cost, low, weights, total) <= cost(point) + 1e-9


def test_replicas_that_all_bring_the_same_are_planned_as_well() -> None:
    """Requests come at a rate that each pipeline can serve: speed brings no throughput."""
    kinds = [device(f"c{at}", memory=0.5e6, memory_bandwidth=1e9 + 1e8 * at) for at in range(11)]
    nodes = [Node(id=f"n{at}", device=f"c{at}") for at in range(11)]
    arrivals = Poisson(kind="poisson", rate=0.01)
    world = problem(
        nodes=nodes,
        devices=kinds,
        model=model(num_hidden_layers=6),
        workload=Workload(arrivals=arrivals, prompt=Fixed(tokens=40), output=Fixed(tokens=10)),
        requirements=Requirements(objective="throughput"),
    )
    found = [one.best for one in surveyed(world)]
    assert min(best.cost for best in found) == pytest.approx(-0.1)
    assert min(best.bound for best in found) <= -0.1 + 1e-9


def rivals() -> Problem:
    """Eleven unlike nodes that make up three pipelines or four."""
    kinds = [device(f"c{at}", memory=0.5e6, memory_bandwidth=1e8 + 1e7 * at) for at in range(11)]
    return problem(
        nodes=[Node(id=f"n{at}", device=f"c{at}") for at in range(11)],
        devices=kinds,
        model=model(num_hidden_layers=6),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=4),
            prompt=Fixed(tokens=40),
            output=Fixed(tokens=10),
        ),
        requirements=Requirements(objective="throughput"),
    )


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_look_ends_soon_after_the_clock_says_so_and_what_it_proved_holds(replicas: int) -> None:
    world = rivals()
    classes = few_apart(node_classes(world))
    between = lines(world, classes)

    def looked(most: float) -> tuple[Best, int]:
        """A look that is over once the clock was read so often, and how often it was read."""
        read = itertools.count()
        clock = Large(
            world, classes, replicas, world.quants, 2, between, Known(), lambda: next(read) >= most
        )
        return clock.best(math.inf, 1), next(read)

    whole, reads = looked(math.inf)
    assert whole.plan is not None
    bounds = list[float]()
    for most in range(0, reads, max(1, reads // 4)):
        cut, read = looked(most)
        assert read - most <= 12
        assert cut.expanded <= whole.expanded
        bounds.append(cut.bound)
    assert [*bounds, whole.bound] == sorted([*bounds, whole.bound])
    assert replicas == 1 or bounds[0] < whole.bound


@pytest.mark.alone
@pytest.mark.slow
def test_no_second_passes_between_two_looks_at_the_clock() -> None:
    read_s = list[float]()

    def clock() -> bool:
        read_s.append(time.process_time())
        return read_s[-1] - read_s[0] > 1.5

    assert solve(random_cluster(100, 19, "throughput", 8), halt=clock).stopped == "time limit"
    assert max(after - before for before, after in itertools.pairwise(read_s)) < 1


@pytest.mark.slow
def test_a_pipeline_that_a_forbidden_one_kept_out_comes_back() -> None:
    # cheaper ones over the same nodes, in circles, are forbidden here once nodes are remembered
    solution = solve(random_cluster(24, 19, "throughput", 8))
    assert solution.gap <= 0.03
    assert solution.stopped == "effort"
