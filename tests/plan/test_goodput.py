"""Goodput: predicted under load and churn as it is simulated; the search's bound holds."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.cluster import Node
from planner.core.cost.outage import Outage
from planner.core.metrics import Metrics
from planner.core.plan import Pipeline, Plan, Readiness, Stage, Standby
from planner.core.problem import Problem, Serving
from planner.core.requirements import MustHave, Requirements
from planner.core.workload import Arrivals, Closed, Fixed, Lognormal, Poisson, Workload
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import as_cost, objective_value
from planner.plan.solve import solve
from planner.sim.simulate import simulate
from tests.core.world import device, link, problem
from tests.plan.test_solve import check_against_brute_force, linked, plans
from tests.plan.worlds import problems
from tests.sim.test_churn import churn, restless

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
T_95 = 3.18
"""Student's t of a two-sided 95 % interval from four runs."""


def bounded(world: Problem, **must: float) -> Problem:
    """The world with goodput as its objective, under these must-haves."""
    asked = Requirements(objective="goodput", must_have=MustHave.model_validate(must))
    return Problem.model_validate(dict(world) | {"requirements": asked})


@settings(RELAXED, max_examples=6)
@given(
    problems(bounds=True),
    st.sampled_from(
        [{"mean_ttft": 0.05}, {"mean_e2el": 0.2}, {"mean_ttft": 0.4, "request_goodput": 2.0}]
    ),
)
def test_the_best_goodput_is_what_brute_force_finds(world: Problem, must: dict[str, float]) -> None:
    kept = world.requirements.must_have.model_copy(update={"mean_ttft_s": None})
    given = MustHave.model_validate(must)
    both = kept.model_copy(update=given.model_dump(exclude_none=True))
    asked = Requirements(objective="goodput", must_have=both)
    check_against_brute_force(Problem.model_validate(dict(world) | {"requirements": asked}))


def test_users_who_wait_behind_others_are_no_goodput() -> None:
    """Four equal users start together; the bound lies between the second and the third."""
    loop = Workload(
        arrivals=Closed(kind="closed", concurrency=4),
        prompt=Fixed(tokens=200),
        output=Fixed(tokens=5),
        requests=40,
    )
    free = problem(nodes=[Node(id="a", device="chip")], workload=loop)
    plan = Plan(pipelines=(Pipeline(stages=(Stage(node="a", start=0, stop=4, quant="bf16"),)),))
    plan = Plan(pipelines=(plan.pipelines[0].model_copy(update={"max_num_seqs": 4}),))
    first = sorted(record.ttft_s for record in simulate(free, plan).records[:4])
    world = bounded(free, mean_ttft=(first[1] + first[2]) / 2)
    told = predict(world, plan).metrics
    assert told.request_goodput == pytest.approx((told.request_throughput or 0.0) / 2)
    assert simulate(world, plan).metrics.request_goodput == pytest.approx(
        told.request_goodput, rel=0.01
    )


def coming_and_going(
    arrivals: Arrivals,
    standbys: list[tuple[int, Readiness]],
    *,
    stages: int = 2,
    requests: int,
    bound_s: float = 5.0,
) -> tuple[Problem, Plan]:
    """Stages on nodes that stay for 40 s and are away for 10; the last nodes stand by."""
    names = "abcdef"[: stages + len(standbys)]
    there = {"device": "chip", "churn": "restless", "price": 1.0}
    nodes = [Node(id="home"), *(Node.model_validate({"id": name} | there) for name in names)]
    seats = arrivals.concurrency if isinstance(arrivals, Closed) else 3
    world = restless(
        churn(),
        nodes=nodes,
        links=[link()],
        serving=Serving(detect_s=0.5),
        workload=Workload(
            arrivals=arrivals,
            prompt=Fixed(tokens=100),
            output=Lognormal(kind="lognormal", median_tokens=80, sigma=0.5, max_tokens=400),
            requests=requests,
        ),
    )
    cuts = [4 * stage // stages for stage in range(stages + 1)]
    held = tuple(
        Stage(node=names[stage], start=cuts[stage], stop=cuts[stage + 1], quant="bf16")
        for stage in range(stages)
    )
    plan = Plan(
        pipelines=(Pipeline(stages=held, max_num_seqs=seats),),
        standbys=tuple(
            Standby(node=names[stages + at], pipeline=0, stage=stage, state=state)
            for at, (stage, state) in enumerate(standbys)
        ),
    )
    return bounded(world, p95_ttft=bound_s), plan


def four_runs(world: Problem, plan: Plan, metric: str = "request_goodput") -> tuple[float, float]:
    """A metric in four simulations: the mean, and half of its 95 % interval."""
    found = [simulate(world, plan, seed).metrics for seed in range(4)]
    each = [getattr(metrics, metric) for metrics in found]
    return statistics.fmean(each), T_95 * statistics.stdev(each) / 2


def users(count: int) -> Closed:
    return Closed(kind="closed", concurrency=count)


def test_goodput_with_a_node_that_stands_by_is_what_is_simulated() -> None:
    world, plan = coming_and_going(users(2), [(0, "hot")], stages=1, requests=1500)
    told = predict(world, plan).metrics
    mean, interval = four_runs(world, plan)
    assert interval < 0.1 * mean
    assert abs((told.request_goodput or 0.0) - mean) <= interval
    assert mean < 0.97 * (told.request_throughput or 0.0)


@pytest.mark.parametrize("backed", [(), (1,)])
def test_tokens_cost_what_is_simulated_where_nodes_are_paid_for_while_they_are_there(
    backed: tuple[int, ...],
) -> None:
    """Within the interval and two per cent: longer runs are off by half of that."""
    ready: list[tuple[int, Readiness]] = [(stage, "hot") for stage in backed]
    world, plan = coming_and_going(users(2), ready, requests=600)
    told = predict(world, plan).metrics
    for metric in ("usd_per_million_output_tokens", "usd_per_hour"):
        mean, interval = four_runs(world, plan, metric)
        assert interval < 0.2 * mean
        assert abs(getattr(told, metric) - mean) <= interval + 0.02 * mean


def test_a_standby_that_took_over_works_instead_of_the_node_it_replaced() -> None:
    world, plan = coming_and_going(users(2), [(0, "hot")], stages=1, requests=1500)
    lines = {line.kind: line for line in predict(world, plan).cost_lines if line.where == "a"}
    busy = lines["rent"].usd_per_hour + lines["repeated"].usd_per_hour
    runs = [simulate(world, plan, seed).stage_busy for seed in range(4)]
    found = [one["a"] for one in runs]
    interval = T_95 * statistics.stdev(found) / 2
    assert interval < 0.25 * statistics.fmean(found)
    assert abs(busy - statistics.fmean(found)) <= interval
    assert busy < 0.6 * statistics.fmean(sum(one.values()) for one in runs)


@pytest.mark.parametrize("backed", [(), (0,)])
def test_nobody_works_longer_than_it_is_there(backed: tuple[int, ...]) -> None:
    ready: list[tuple[int, Readiness]] = [(stage, "hot") for stage in backed]
    for arrivals in (users(2), Poisson(kind="poisson", rate=0.5)):
        world, plan = coming_and_going(arrivals, ready, stages=1, requests=10)
        assert all(line.usd_per_hour >= 0 for line in predict(world, plan).cost_lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "backed", "bound_s"),
    [
        (None, (), 5.0),
        (None, (1,), 5.0),
        (None, (0, 1), 30.0),
        (0.4, (), 5.0),
        (0.4, (1,), 30.0),
        (0.25, (1,), 5.0),
    ],
)
def test_goodput_under_churn_is_what_is_simulated(
    rate: float | None, backed: tuple[int, ...], bound_s: float
) -> None:
    """Of two users, or of requests at their own times, with none, one or both stages backed."""
    arrivals = Poisson(kind="poisson", requests_per_s=rate) if rate else users(2)
    ready: list[tuple[int, Readiness]] = [(stage, "hot") for stage in backed]
    world, plan = coming_and_going(arrivals, ready, requests=3000, bound_s=bound_s)
    told = predict(world, plan).metrics.request_goodput or 0.0
    mean, interval = four_runs(world, plan)
    assert interval < 0.2 * mean
    assert abs(told - mean) <= interval


def test_a_pipeline_that_is_there_too_seldom_for_what_comes_serves_nothing_in_time() -> None:
    often = Poisson(kind="poisson", requests_per_s=0.75)
    world, plan = coming_and_going(often, [], requests=1)
    prediction = predict(world, plan)
    assert prediction.pipelines[0].lost_s == {"overloaded": 3600.0}
    assert prediction.metrics.request_goodput == 0


def test_standbys_raise_goodput_and_what_is_lost_is_told_by_cause() -> None:
    found = list[float]()
    for count in range(3):
        world, plan = coming_and_going(users(2), [(0, "hot")] * count, stages=1, requests=1)
        prediction = predict(world, plan)
        metrics, lost_s = prediction.metrics, prediction.pipelines[0].lost_s
        kept = 1 - math.fsum(lost_s.values()) / 3600
        assert metrics.request_goodput == pytest.approx((metrics.request_throughput or 0.0) * kept)
        assert metrics.availability == pytest.approx(1 - lost_s["away"] / 3600)
        found.append(metrics.request_goodput or 0.0)
    assert found == sorted(found)
    assert found[0] < found[-1]


def every_protected_plan(world: Problem, seats: int) -> list[Metrics]:
    """The metrics of all plans of one pipeline, with any one spare node hot for any stage."""
    names = [node.id for node in world.cluster.workers]
    found = []
    for plan in plans(world, names, ("bf16",), 1, seats):
        if not linked(world, plan):
            continue
        spare = [name for name in names if name not in plan.nodes]
        backed = [
            plan.model_copy(
                update={"standbys": (Standby(node=name, pipeline=0, stage=at, state="hot"),)}
            )
            for name in spare
            for at in range(len(plan.nodes))
        ]
        found += [predict(world, one).metrics for one in (plan, *backed)]
    return found


@settings(RELAXED, max_examples=5)
@given(
    st.lists(st.sampled_from([(1e9, "fast"), (3e9, "fast"), (3e9, "slow"), (9e9, "none")]),
             min_size=3, max_size=3),
    st.sampled_from([None, 0.1, 0.3]),
    st.sampled_from(["goodput", "usd_per_million_output_tokens", "usd_per_hour"]),
)  # fmt: skip
def test_no_plan_with_standbys_passes_the_bound(
    kinds: list[tuple[float, str]], bound_s: float | None, objective: str
) -> None:
    chips = [device(f"c{at}", memory_bandwidth=speed) for at, (speed, _) in enumerate(kinds)]
    nodes = [Node(id="home")]
    for at, (_, goes) in enumerate(kinds):
        one = {"id": f"n{at}", "device": f"c{at}", "price": 0.5 + at / 4}
        nodes.append(Node.model_validate(one | {"churn": None if goes == "none" else goes}))
    profiles = churn("fast"), churn("slow", up_scale=400.0, down_scale=50.0)
    must = MustHave.model_validate({} if bound_s is None else {"mean_ttft": bound_s})
    world = restless(
        *profiles,
        nodes=nodes,
        devices=chips,
        links=[link()],
        requirements=Requirements.model_validate({"objective": objective, "must_have": must}),
        workload=Workload(arrivals=users(1), prompt=Fixed(tokens=100), output=Fixed(tokens=10)),
    )
    able = [
        as_cost(world, value)
        for one in every_protected_plan(world, 1)
        if not must.missed(one) and (value := objective_value(world, one)) is not None
    ]
    try:
        solution = solve(world)
    except NoPlanError:
        assert not able
        return
    bound, found = as_cost(world, solution.bound), as_cost(world, solution.value)
    slack = 1e-9 * abs(bound)
    assert bound <= min(able) + slack
    assert bound <= found + slack
    assert found <= min(able) + slack
    assert solution.gap >= (found - bound) / abs(found) - 1e-9
    again = predict(world, solution.plan).metrics
    assert solution.value == pytest.approx(objective_value(world, again))


def test_losses_that_are_made_good_at_the_same_time_count_once() -> None:
    """However slow a recovery is, the pipeline works now and then."""
    rare = Outage(availability=0.9, losses=1.0, strandings=0.0, taking_over_s=2.0)
    assert rare.recovering_s == pytest.approx(2.0, rel=1e-3)
    slow = Outage(availability=0.5, losses=100.0, strandings=0.0, taking_over_s=9000.0)
    assert 0.99 * 1800 < slow.recovering_s < 1800
    never = Outage(availability=0.0, losses=1.0, strandings=1.0, taking_over_s=1.0)
    assert never.recovering_s == 0.0
