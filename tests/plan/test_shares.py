"""Routing weights: the best for the pipelines they are for, and what they bring when simulated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from planner.core.cluster import Node
from planner.core.metrics import RequestRecord
from planner.core.plan import Pipeline, Plan, Stage
from planner.core.problem import Problem
from planner.core.requirements import MustHave, Objective, Requirements
from planner.core.workload import Arrivals, Closed, Fixed, Poisson, Workload
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost, objective_value
from planner.plan.room import overfull
from planner.plan.shares import shared
from planner.plan.solve import solve
from planner.sim.simulate import simulate
from tests.core.world import device, engine, link, model, problem
from tests.plan.worlds import problems

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TEN, BUSY = (Poisson.model_validate({"kind": "poisson", "rate": rate}) for rate in (10, 45))


def users(count: int) -> Closed:
    return Closed(kind="closed", concurrency=count)


def unlike(arrivals: Arrivals, objective: Objective, flops: float = 1e13) -> Problem:
    """A node that computes and reads three times as fast as the other one usually does."""
    slow = device(compute={"bf16": flops})
    return problem(
        [Node(id="a", device="fast"), Node(id="b", device="chip")],
        [link(one_way_latency=0.0, bandwidth=1e9)],
        [device("fast", memory_bandwidth=3e11, compute={"bf16": 3e13}), slow],
        model=model(hidden_size=1024, intermediate_size=4096, num_hidden_layers=8),
        engine=engine(hop=0, coordinator_step=0, request=0, frame=0),
        requirements=Requirements(objective=objective),
        workload=Workload(
            arrivals=arrivals,
            prompt=Fixed(tokens=100),
            output=Fixed(tokens=11),
            requests=1500,
        ),
    )


def side_by_side(seats: int, weights: tuple[float, float] = (1.0, 1.0)) -> Plan:
    """The model on each of the two nodes."""
    return Plan(
        pipelines=tuple(
            Pipeline(
                stages=(Stage(node=node, start=0, stop=8, quant="bf16"),),
                weight=weight,
                max_num_seqs=seats,
            )
            for node, weight in zip("ab", weights, strict=True)
        )
    )


def per_user_ms(records: list[RequestRecord], name: str) -> float:
    """Mean of the pipelines' means by their users: the time of their requests is what they have."""
    by_pipeline = [
        [one for one in records if one.pipeline == index]
        for index in sorted({one.pipeline for one in records})
    ]
    present = [math.fsum(one.e2el_s for one in each) for each in by_pipeline]
    means = [
        math.fsum(getattr(one, f"{name}_s") for one in each) / len(each) for each in by_pipeline
    ]
    weighed = math.fsum(share * mean for share, mean in zip(present, means, strict=True))
    return 1e3 * weighed / math.fsum(present)


def simulated(world: Problem, plan: Plan) -> float:
    """The objective as it comes out."""
    result, objective = simulate(world, plan), world.requirements.objective
    if world.workload.concurrency is not None and objective in ("ttft", "tpot", "e2el"):
        return per_user_ms(result.records, objective)
    return figure(objective_value(world, result.metrics))


def predicted(world: Problem, plan: Plan) -> float:
    """The objective as it is expected."""
    return figure(objective_value(world, predict(world, plan).metrics))


@pytest.mark.parametrize(
    ("count", "weights"), [(2, (1.0, 1.0)), (12, (1.0, 1.0)), (12, (3.0, 1.0)), (12, (1.0, 2.0))]
)
def test_means_count_requests_as_a_simulation_does(
    count: int, weights: tuple[float, float]
) -> None:
    """A faster replica serves more requests to as many users; means over users are told apart."""
    world, plan = unlike(users(count), "tpot"), side_by_side(12, weights)
    result, expected = simulate(world, plan), predict(world, plan).metrics
    for name in ("ttft", "tpot", "e2el"):
        mean = getattr(result.metrics, f"mean_{name}_ms")
        assert getattr(expected, f"mean_{name}_ms") == pytest.approx(mean, rel=0.01)
        user = per_user_ms(result.records, name)
        assert getattr(expected, f"user_{name}_ms") == pytest.approx(user, rel=0.01)
    assert expected.output_throughput == pytest.approx(result.metrics.output_throughput, rel=0.01)
    assert figure(expected.user_tpot_ms) > 1.005 * figure(expected.mean_tpot_ms)


def test_a_mean_over_requests_gets_better_as_a_slow_replica_gets_slower() -> None:
    """Why objectives count users: theirs does not, and both serve fewer requests."""
    worlds = [unlike(users(2), "tpot", flops) for flops in (1e13, 1e12)]
    before, after = (predict(world, side_by_side(1)).metrics for world in worlds)
    assert figure(after.mean_tpot_ms) < 0.97 * figure(before.mean_tpot_ms)
    assert figure(after.user_tpot_ms) >= figure(before.user_tpot_ms)
    assert figure(after.output_throughput) < figure(before.output_throughput)
    assert [
        world.requirements.value(m) for world, m in zip(worlds, (before, after), strict=True)
    ] == [
        before.user_tpot_ms,
        after.user_tpot_ms,
    ]


def figure(value: float | None) -> float:
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("arrivals", "objective", "least"),
    [
        (users(4), "throughput", 0.06),
        (users(4), "tpot", 0.10),
        (users(16), "e2el", 0.07),
        (users(16), "ttft", 0.05),
        (users(16), "p95_e2el", 0.20),
        (users(16), "throughput", 0.015),
        (TEN, "e2el", 0.14),
        (BUSY, "e2el", 0.10),
        (BUSY, "ttft", 0.10),
        (BUSY, "p95_e2el", 0.05),
    ],
)
def test_what_weights_are_predicted_to_gain_is_what_a_simulation_gains(
    arrivals: Arrivals, objective: Objective, least: float
) -> None:
    world = unlike(arrivals, objective)
    plan = side_by_side(min(8, (world.workload.concurrency or 16) // 2))
    chosen = shared(world, plan)
    assert chosen.pipelines[0].weight > chosen.pipelines[1].weight

    def gain(told: Callable[[Problem, Plan], float]) -> float:
        before, after = (as_cost(world, told(world, one)) for one in (plan, chosen))
        return (before - after) / abs(before)

    assert gain(predicted) > least
    assert gain(simulated) == pytest.approx(gain(predicted), abs=0.03)


def compositions(count: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to give so many users to pipelines, one at least to each."""
    for cuts in itertools.combinations(range(1, count), parts - 1):
        yield tuple(b - a for a, b in itertools.pairwise((0, *cuts, count)))


def check_no_other_split_is_better(world: Problem) -> None:
    try:
        solution = solve(world, explain=False)
    except NoPlanError:
        return
    best = as_cost(world, solution.value)
    count, several = world.workload.concurrency, len(solution.plan.pipelines)
    assert count is not None
    for split in compositions(count, several):
        pipelines = []
        for one, part in zip(solution.plan.pipelines, split, strict=True):
            seats = max(part, math.ceil(count / several))
            pipelines.append(one.model_copy(update={"weight": part, "max_num_seqs": seats}))
        plan = solution.plan.model_copy(update={"pipelines": tuple(pipelines)})
        if overfull(world, plan):
            continue
        prediction = predict(world, plan)
        value = objective_value(world, prediction.metrics)
        if value is not None and admissible(world, plan, prediction):
            assert best <= as_cost(world, value) + 1e-6 * abs(best)


@settings(RELAXED, max_examples=15)
@given(problems(bounds=True))
def test_no_other_split_of_the_users_is_better(world: Problem) -> None:
    check_no_other_split_is_better(world)


@pytest.mark.slow
@settings(RELAXED, max_examples=60)
@given(problems(bounds=True))
def test_no_other_split_of_the_users_is_better_many_times(world: Problem) -> None:
    check_no_other_split_is_better(world)


def test_a_plan_carries_the_weights_and_says_what_equal_ones_would_bring() -> None:
    world = unlike(users(16), "throughput")
    solution = solve(world)
    first, second = solution.plan.pipelines
    assert {first.weight, second.weight} == {5.0, 3.0}
    assert solution.bound_weights == "equal"
    assert solution.equal_value is not None
    assert solution.value > solution.equal_value
    equal = tuple(
        one.model_copy(update={"weight": 1.0, "max_num_seqs": 8}) for one in (first, second)
    )
    plain = predict(world, Plan(pipelines=equal)).metrics.output_throughput
    assert solution.equal_value == pytest.approx(plain, rel=1e-9)


def test_weights_may_keep_bounds_that_equal_ones_break() -> None:
    """With as many users the slow pipeline is too slow, and so is the fast one alone."""
    world = unlike(users(16), "throughput")
    equal = predict(world, side_by_side(8)).metrics.p95_e2el_ms
    must = MustHave.model_validate({"p95_e2el": 0.85e-3 * figure(equal)})
    asked = Problem.model_validate(
        dict(world) | {"requirements": Requirements(objective="throughput", must_have=must)}
    )
    solution = solve(asked)
    assert admissible(asked, solution.plan, solution.prediction)
    assert solution.plan.pipelines[0].weight != solution.plan.pipelines[1].weight
    assert solution.gap > 0 or solution.value == solution.bound


def test_equal_pipelines_share_equally() -> None:
    world = unlike(users(6), "throughput")
    chips = tuple(Node(id=name, device="chip") for name in "ab")
    cluster = dict(world.cluster) | {"nodes": chips}
    alike = Problem.model_validate(dict(world) | {"cluster": type(world.cluster)(**cluster)})
    solution = solve(alike)
    assert [one.weight for one in solution.plan.pipelines] == [1.0, 1.0]
    assert solution.equal_value is None
