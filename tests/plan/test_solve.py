"""The search finds what brute force finds, whatever it is asked for."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from planner.core.choice import decided, seated
from planner.core.cluster import Node
from planner.core.cost.traversal import route
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem, Serving
from planner.core.requirements import OBJECTIVES, MustHave, Requirements
from planner.core.speculation import Speculation
from planner.core.workload import Closed, Fixed, Poisson, Workload
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import overfull
from planner.plan.solve import solve
from tests.core.world import device, link, model, problem, quant
from tests.plan.worlds import problems

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def pipelines(
    world: Problem, names: tuple[str, ...], schemes: tuple[str, ...], seats: int
) -> Iterator[Pipeline]:
    """Every way to lay the model's layers over exactly these nodes, each node used in each way."""
    layers = world.model.num_hidden_layers
    for order in itertools.permutations(names):
        uses = [
            [
                (scheme, split)
                for scheme in schemes
                for split in (None, *world.engine.other_splits)
                if split is None or world.cluster.node(name).count > 1
            ]
            for name in order
        ]
        for cuts in itertools.combinations(range(1, layers), len(order) - 1):
            ends = (0, *cuts, layers)
            for chosen in itertools.product(*uses):
                stages = [
                    Stage(node=node, start=start, stop=stop, quant=scheme, split=split)
                    for node, (start, stop), (scheme, split) in zip(
                        order, itertools.pairwise(ends), chosen, strict=True
                    )
                ]
                yield Pipeline(stages=tuple(stages), max_num_seqs=seats)


def plans(
    world: Problem, names: list[str], schemes: tuple[str, ...], replicas: int, seats: int
) -> Iterator[Plan]:
    """Every plan with so many replicas, disjoint in their nodes."""

    def rest(count: int, free: list[str], least: str) -> Iterator[tuple[Pipeline, ...]]:
        if count == 0:
            yield ()
            return
        for size in range(1, len(free) + 1):
            for chosen in itertools.combinations(free, size):
                if chosen[0] < least:
                    continue
                left = [name for name in free if name not in chosen]
                for pipeline in pipelines(world, chosen, schemes, seats):
                    for others in rest(count - 1, left, chosen[0]):
                        yield (pipeline, *others)

    for found in rest(replicas, names, ""):
        yield Plan(pipelines=found)


def linked(world: Problem, plan: Plan) -> bool:
    return all(
        world.cluster.connected(src, dst)
        for pipeline in plan.pipelines
        for src, dst in route(world, pipeline.nodes)
    )


def brute_force(world: Problem) -> float:
    """Least cost over every replica count and scheme, with as many seats as fit and serve."""
    must, best = world.requirements.must_have, math.inf
    names = [
        node.id
        for node in world.cluster.workers
        if must.regions is None or node.region in must.regions
        if must.trust is None or node.trust in ("own", must.trust)
    ]
    users = world.workload.concurrency
    assert users is not None
    kept = []
    for scheme in world.quants:
        quality = scheme.quality_for(world.model.family)
        if must.quality is None or (quality is not None and quality >= must.quality):
            kept.append(scheme.id)
    mixes = [(name,) for name in kept]
    for mix in [*mixes, tuple(kept)] if world.serving.mixed_quants else mixes:
        for replicas in range(1, min(len(names), users) + 1):
            most = math.ceil(users / replicas)
            for seats in [max(1, most >> power) for power in range(most.bit_length())]:
                costs = [
                    as_cost(world, value)
                    for plan in plans(world, names, mix, replicas, seats)
                    if linked(world, plan) and not overfull(world, plan)
                    if admissible(world, plan, prediction := predict(world, plan))
                    if (value := objective_value(world, prediction.metrics)) is not None
                ]
                if costs:
                    best = min(best, *costs)
                    break
    return best


def check_against_brute_force(world: Problem, explain: bool = True) -> None:
    expected = brute_force(world)
    try:
        solution = solve(world, equal_weights=True, explain=explain)
    except NoPlanError:
        assert expected == math.inf
        return
    found = as_cost(world, solution.value)
    assert found == pytest.approx(expected, rel=1e-9)
    assert solution.gap == 0
    assert not overfull(world, solution.plan)
    assert admissible(world, solution.plan, solution.prediction)


@settings(RELAXED, max_examples=40)
@given(problems())
def test_it_finds_what_brute_force_finds(world: Problem) -> None:
    check_against_brute_force(world)


@settings(RELAXED, max_examples=40)
@given(problems(bounds=True))
def test_it_finds_what_brute_force_finds_under_must_haves(world: Problem) -> None:
    check_against_brute_force(world)


@pytest.mark.slow
@settings(RELAXED, max_examples=500)
@given(problems(bounds=True))
def test_it_finds_what_brute_force_finds_many_times(world: Problem) -> None:
    check_against_brute_force(world, explain=False)


def eight_nodes(objective: str) -> Problem:
    """Eight unlike nodes for eighty layers; none holds more than a third of them."""
    count = 8
    kinds = [
        device(f"chip-{i}", memory=5e9 + 0.3e9 * i, memory_bandwidth=200e9 + 90e9 * i)
        for i in range(count)
    ]
    nodes = [
        Node(id=f"n{i}", device=f"chip-{i}", region=f"r{i % 3}", price=0.2 + 0.1 * i)
        for i in range(count)
    ]
    ways = [
        link(f"n{i}", f"n{j}", one_way_latency=0.002 + 0.004 * ((3 * i + 5 * j) % 7))
        for i in range(count)
        for j in range(count)
        if i != j
    ]
    shape = model(
        hidden_size=4096,
        num_hidden_layers=80,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        vocab_size=32000,
    )
    return problem(
        nodes=nodes,
        links=ways,
        devices=kinds,
        model=shape,
        quants=(quant("q4", weight_bits=4.5),),
        requirements=Requirements.model_validate({"objective": objective}),
        workload=Workload(
            arrivals=Closed(kind="closed", concurrency=4),
            prompt=Fixed(tokens=512),
            output=Fixed(tokens=128),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_eight_nodes_and_eighty_layers_are_proven_optimal(objective: str) -> None:
    assert solve(eight_nodes(objective), explain=False).gap == 0


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["tpot", "throughput"])
def test_an_exact_search_that_is_cut_short_is_followed_by_the_other_one(objective: str) -> None:
    world = eight_nodes(objective)
    best = solve(world, equal_weights=True)
    cut = solve(world, expansions=3, equal_weights=True)
    assert best.stopped == "proven"
    assert (cut.stopped == "proven") == (cut.gap == 0)
    assert as_cost(world, best.value) <= as_cost(world, cut.value) + 1e-9
    assert as_cost(world, cut.bound) <= as_cost(world, best.value) + 1e-9
    assert cut.solver != "exact"


def test_a_search_that_is_halted_still_has_a_plan_and_a_bound_and_says_so() -> None:
    kinds = [device(f"c{i}", memory=0.5e6, memory_bandwidth=1e9 + 1e8 * i) for i in range(8)]
    nodes = [Node(id=f"n{i}", device=f"c{i}") for i in range(8)]
    world = problem(nodes=nodes, devices=kinds, model=model(num_hidden_layers=6))
    whole, asked = solve(world, equal_weights=True), list[bool]()

    def after_two() -> bool:
        asked.append(True)
        return len(asked) > 2

    for halt in (lambda: True, after_two):
        halted = solve(world, halt=halt, equal_weights=True)
        assert halted.stopped == ("proven" if halted.gap == 0 else "time limit")
        assert halted.value >= whole.value * (1 - 1e-9)
        assert halted.bound <= whole.value * (1 + 1e-9)
    assert solve(world, halt=lambda: False, equal_weights=True) == whole


@pytest.mark.parametrize("users", [None, 3])
def test_what_was_solved_before_a_halt_stays_exact_and_the_rest_has_a_bound(
    users: int | None,
) -> None:
    """Wherever the clock stops it: seats, drafts, replicas; bounds hold and plans can be run."""
    world = halves(users)
    whole, gaps = solve(world, equal_weights=True), list[float]()
    assert whole.stopped == "proven"
    calls = itertools.count()
    assert solve(world, halt=lambda: bool(next(calls) < 0), equal_weights=True) == whole
    for share in (0.0, 0.3, 0.9):
        asked, most = itertools.count(), share * next(calls)
        cut = solve(world, halt=lambda: next(asked) >= most, equal_weights=True)  # noqa: B023
        assert cut.stopped in ("proven", "time limit")
        assert as_cost(world, cut.value) >= as_cost(world, whole.value) - 1e-9
        assert as_cost(world, cut.bound) <= as_cost(world, whole.value) + 1e-9
        settled = decided(world, cut.plan)
        assert predict(settled, cut.plan) == cut.prediction
        assert not overfull(settled, cut.plan)
        gaps.append(cut.gap)
    assert gaps[-1] < gaps[0]


def halves(users: int | None) -> Problem:
    """Two nodes that hold the model together and one that holds it alone; seats and drafts open."""
    nodes = [Node(id=name, device="chip") for name in "ab"] + [Node(id="c", device="large")]
    drafts = Speculation(draft_tokens=2, at_most=True, acceptance=0.6, draft_token=1e-3)
    arrivals = Poisson(kind="poisson", rate=1.0)
    world = problem(
        nodes,
        [link(one_way_latency=0.02)],
        [device(memory=6e5), device("large", memory=2e6, memory_bandwidth=2e10)],
        requirements=Requirements(objective="e2el"),
        serving=Serving(speculation=drafts, max_num_seqs=4),
        workload=Workload(
            arrivals=arrivals if users is None else Closed(kind="closed", concurrency=users),
            prompt=Fixed(tokens=20),
            output=Fixed(tokens=10),
        ),
    )
    return seated(world, ("a", "b", "c"))


def test_equal_nodes_are_searched_as_one_class() -> None:
    nodes = [Node(id=f"n{i}", device="chip") for i in range(30)]
    chip = device(memory=0.5e6, memory_bandwidth=1e9)
    solution = solve(problem(nodes=nodes, devices=[chip], model=model(num_hidden_layers=6)))
    assert solution.gap == 0
    assert "n29" not in solution.plan.nodes


def test_a_cluster_beyond_the_exact_search_gets_an_honest_gap() -> None:
    kinds = [device(f"c{i}", memory=0.5e6, memory_bandwidth=1e9 + 1e8 * i) for i in range(14)]
    nodes = [Node(id=f"n{i}", device=f"c{i}") for i in range(14)]
    solution = solve(problem(nodes=nodes, devices=kinds, model=model(num_hidden_layers=6)))
    assert 0 <= solution.gap < 1
    assert as_cost(problem(), solution.bound) <= solution.value
    assert "Lagrangian" in solution.solver


def open_world(rate: float) -> Problem:
    return problem(
        devices=[device(memory=3e6, memory_bandwidth=1e9)],
        workload=Workload(
            arrivals=Poisson(kind="poisson", rate=rate),
            prompt=Fixed(tokens=40),
            output=Fixed(tokens=10),
        ),
        serving=Serving(max_num_seqs=8),
    )


def test_open_arrivals_are_planned_and_overload_is_refused() -> None:
    solution = solve(open_world(2.0))
    assert solution.gap == 0
    assert solution.prediction.metrics.request_throughput == pytest.approx(2.0)
    with pytest.raises(NoPlanError):
        solve(open_world(1e5))


@pytest.mark.parametrize(
    ("changes", "must", "constraint"),
    [
        ({"devices": [device(memory=1e4)]}, {}, "memory"),
        ({}, {"regions": ("mars",)}, "regions"),
        ({"quants": (quant(lossless=False),)}, {"quality": 0.99}, "quality"),
        ({}, {"mean_tpot": 1e-9}, "mean_tpot_ms"),
        ({}, {"p95_ttft": 1e-9}, "p95_ttft_ms"),
        ({"nodes": [Node(id="a", device="chip", price=5)]}, {"usd_per_hour": 1}, "usd_per_hour"),
        ({}, {"output_throughput": 1e9}, "output_throughput"),
    ],
)
def test_what_cannot_be_met_is_named(
    changes: dict[str, object], must: dict[str, object], constraint: str
) -> None:
    wanted = Requirements(must_have=MustHave.model_validate(must))
    with pytest.raises(NoPlanError) as raised:
        solve(problem(**changes, requirements=wanted))  # type: ignore[arg-type]
    assert raised.value.constraint == constraint
    assert raised.value.message
    assert raised.value.hint


def test_the_answer_does_not_depend_on_hash_seeds() -> None:
    script = (
        "from tests.plan.test_solve import open_world, eight_nodes\n"
        "from planner.plan.solve import solve\n"
        "print(solve(open_world(3.0)).model_dump_json())\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(answers) == 1
