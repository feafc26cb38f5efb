"""The search is never worse than what simpler planners make."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.worlds import world
from planner.core.cluster import Node
from planner.core.plan import Plan
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Requirements
from planner.files.scenario import load_scenario
from planner.plan.baselines import Baseline, baseline
from planner.plan.infeasible import NoPlanError
from planner.plan.promise import as_cost
from planner.plan.simple import simplest
from planner.plan.solve import solve, solve_simply
from tests.core.world import device, link, model, problem, quant
from tests.plan.worlds import problems
from tests.test_scenarios import probed

NAMES: tuple[Baseline, ...] = get_args(Baseline)
SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))


def seats(plan: Plan) -> int:
    """Users that are served at once: with fewer, each is answered faster and the others wait."""
    return sum(pipeline.max_num_seqs for pipeline in plan.pipelines)


def never_better(world: Problem, explain: bool = False) -> None:
    try:
        found = solve(world, explain=explain)
    except NoPlanError:
        for name in NAMES:
            with pytest.raises(NoPlanError):
                solve_simply(world, name, explain=False)
        return
    best = as_cost(world, found.value)
    for name in NAMES:
        try:
            simple = solve_simply(world, name, explain=False)
        except NoPlanError:
            continue
        if seats(simple.plan) < seats(found.plan):
            continue
        cost = as_cost(world, simple.value)
        assert cost >= best - 1e-9 * abs(best)
        assert as_cost(world, simple.bound) <= best + 1e-9 * abs(best)


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 60])
def test_a_search_that_is_stopped_is_no_worse_than_what_simpler_planners_make(most: int) -> None:
    # at once, or while structures get their first plans; cg-bp's is a sixth better than these
    problem, asked = world(24, 1, "throughput", 8), itertools.count()
    found = solve(problem, halt=lambda: next(asked) >= most, explain=False)
    assert found.stopped == "time limit"
    best = simplest(problem)[0]
    assert found.value >= best.value > 34
    assert found.value <= found.bound


def test_the_bound_on_what_a_simpler_planner_misses_knows_what_nodes_cost() -> None:
    """The fast chip is dear, the cheap one slow: no plan is both, and none costs nothing."""
    kinds = [device("fast", memory=3e6, memory_bandwidth=4e9), device("slow", memory=3e6)]
    nodes = [
        Node(id="home"),
        Node(id="dear", device="fast", price=4.0),
        Node(id="cheap", device="slow", price=1.0),
    ]
    wanted = Requirements(objective="usd_per_million_output_tokens")
    priced = problem(nodes=nodes, devices=kinds, requirements=wanted)
    best, simple = solve(priced), solve_simply(priced, "even")
    assert best.gap == 0
    assert 0.9 * best.value <= simple.bound <= best.value * (1 + 1e-9)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(problems(bounds=True))
def test_no_baseline_beats_the_search_on_random_clusters(world: Problem) -> None:
    never_better(world)


@pytest.mark.slow
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_no_baseline_beats_the_search_on_bundled_scenarios(path: Path, tmp_path: Path) -> None:
    never_better(load_scenario(path, [probed(tmp_path)], []).problem, explain=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_on_mixed_clusters_the_search_serves_a_fifth_more_than_any_baseline(seed: int) -> None:
    problem = world(16, seed, "throughput", 16)
    found = solve(problem, explain=False)
    assert found.bound >= found.value
    reached = []
    for name in NAMES:
        with suppress(NoPlanError):
            reached.append(solve_simply(problem, name, explain=False).value)
    assert reached
    assert found.value >= 1.2 * max(reached)


def layers_of(world: Problem, name: Baseline) -> list[tuple[str, int, int]]:
    plan = baseline(world, name, world.quants[0], 1)
    assert plan is not None
    return [(stage.node, stage.start, stage.stop) for one in plan.pipelines for stage in one.stages]


def test_each_baseline_cuts_in_its_own_way() -> None:
    kinds = [device("small", memory=1e6), device("large", memory=3e6, memory_bandwidth=1e9)]
    nodes = [Node(id="a", device="small"), Node(id="b", device="large")]
    world = problem(nodes=nodes, devices=kinds, model=model(num_hidden_layers=8))
    assert layers_of(world, "even") == [("a", 0, 4), ("b", 4, 8)]
    assert layers_of(world, "memory") == [("a", 0, 2), ("b", 2, 8)]
    assert layers_of(world, "greedy") == [("a", 0, 8), ("b", 0, 8)]
    assert layers_of(world, "fixed-order") == [("a", 0, 8)]


def test_tflops_cuts_in_proportion_to_peak_arithmetic() -> None:
    kinds = [device("slow", compute={"bf16": 1e9}), device("fast", compute={"bf16": 3e9})]
    nodes = [Node(id="a", device="slow"), Node(id="b", device="fast", count=2)]
    world = problem(nodes=nodes, devices=kinds, model=model(num_hidden_layers=7))
    assert layers_of(world, "tflops") == [("a", 0, 1), ("b", 1, 7)]


def halves(far_s: float) -> Problem:
    """Three servers of half a model each; b is ``far_s`` away from the others."""
    kind = device("half", memory=3e5)
    nodes = [Node(id=name, device="half") for name in "abc"]
    far = [
        link(*ends, one_way_latency=far_s)
        for ends in itertools.permutations("abc", 2)
        if "b" in ends
    ]
    return problem(nodes=nodes, devices=[kind], links=[link(), *far])


def test_petals_servers_take_the_weakest_blocks_and_clients_the_nearest_servers() -> None:
    assert layers_of(halves(1e-3), "petals") == [("a", 0, 2), ("b", 2, 4)]
    assert layers_of(halves(1.0), "petals") == [("a", 0, 2), ("c", 2, 4)]


def test_cg_bp_lets_the_servers_with_the_least_time_per_block_choose_first() -> None:
    assert layers_of(halves(1e-3), "cg-bp") == [("a", 0, 2), ("b", 2, 4)]
    assert layers_of(halves(1.0), "cg-bp") == [("a", 0, 2), ("c", 2, 4)]
    kinds = [device("slow", memory=2e6, memory_bandwidth=1e7), device("fast", memory=2e6)]
    nodes = [Node(id="a", device="slow"), Node(id="b", device="fast")]
    world = problem(nodes=nodes, devices=kinds, model=model(num_hidden_layers=4))
    assert layers_of(world, "cg-bp")[0] == ("b", 0, 4)


def test_a_baseline_that_fits_nothing_says_so() -> None:
    world = problem(devices=[device(memory=1e4)], quants=(quant(),), requirements=Requirements())
    for name in NAMES:
        with pytest.raises(NoPlanError, match=name):
            solve_simply(world, name)


def test_a_baseline_whose_only_node_cannot_be_reached_says_so() -> None:
    must = MustHave(regions=("eu",))
    world = problem(
        nodes=[Node(id="a", device="chip", region="us"), Node(id="b", device="chip", region="eu")],
        links=[link("b", "a")],
        requirements=Requirements(must_have=must),
    )
    for name in NAMES:
        with pytest.raises(NoPlanError):
            solve_simply(world, name)
