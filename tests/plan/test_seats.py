"""The coordinator's seat: chosen as brute force chooses it, bounded over all seats, explained."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.core.choice import decided, seated, seats_out, trusted_seats
from planner.core.cluster import Node
from planner.core.problem import Problem, Serving
from planner.core.requirements import MustHave, Requirements
from planner.core.speculation import Speculation
from planner.plan.baselines import Baseline
from planner.plan.branches import leaves, narrower, seat_classes
from planner.plan.infeasible import NoPlanError
from planner.plan.predict import predict
from planner.plan.promise import admissible, as_cost
from planner.plan.room import capacity_bytes, overfull
from planner.plan.solve import solve, solve_simply
from planner.plan.survey import bounded, surveyed
from planner.sim.simulate import simulate
from tests.core.world import device, link, model, problem
from tests.plan.test_solve import brute_force
from tests.plan.worlds import problems

RELAXED = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@st.composite
def open_worlds(draw: st.DrawFn, bounds: bool = False) -> Problem:
    """A random world whose coordinator may sit at two or three of its nodes."""
    world = draw(problems(bounds).filter(lambda one: len(one.cluster.nodes) > 1))
    ids = [node.id for node in world.cluster.nodes]
    return seated(world, tuple(draw(st.permutations(ids))[: draw(st.integers(2, 3))]))


def check_against_brute_force(world: Problem) -> None:
    each = [brute_force(seated(world, (name,))) for name in world.cluster.seats]
    try:
        solution = solve(world, equal_weights=True)
    except NoPlanError:
        assert min(each) == math.inf
        return
    found, slack = as_cost(world, solution.value), 1e-9 * abs(min(each))
    assert found == pytest.approx(min(each), rel=1e-9)
    assert solution.gap == 0
    seat = solution.plan.coordinator
    assert seat is not None
    assert each[world.cluster.seats.index(seat)] == pytest.approx(found, rel=1e-9)
    settled = decided(world, solution.plan)
    assert predict(settled, solution.plan) == solution.prediction
    assert not overfull(settled, solution.plan)
    assert admissible(settled, solution.plan, solution.prediction)
    for other in solution.seats:
        assert as_cost(world, other.value) >= each[world.cluster.seats.index(other.node)] - slack
    if solution.seats:
        alike = {name: group for group in seat_classes(world) for name in group}
        others = [
            cost
            for name, cost in zip(world.cluster.seats, each, strict=True)
            if name not in alike[seat]
        ]
        assert as_cost(world, solution.seats[0].value) == pytest.approx(min(others), rel=1e-9)


@settings(RELAXED, max_examples=12)
@given(open_worlds())
def test_the_seat_is_what_brute_force_finds_and_so_is_the_next_best(world: Problem) -> None:
    check_against_brute_force(world)


@pytest.mark.slow
@settings(RELAXED, max_examples=20)
@given(open_worlds(bounds=True))
def test_the_seat_is_what_brute_force_finds_under_must_haves(world: Problem) -> None:
    check_against_brute_force(world)


@settings(RELAXED, max_examples=5)
@given(open_worlds())
def test_bounds_of_large_clusters_hold_over_all_seats(world: Problem) -> None:
    costs = []
    for one in leaves(world):
        try:
            costs.append(as_cost(world, solve(one, equal_weights=True, explain=False).value))
        except NoPlanError:
            continue
    optimum = min(costs, default=math.inf)
    slack = 1e-9 * abs(optimum) if costs else 0.0
    assert bounded(world) <= optimum + slack
    found = surveyed(world)
    assert min(one.best.bound for one in found) <= optimum + slack
    for one in found:
        assert one.best.cost >= optimum - slack
        if one.best.plan is not None:
            assert predict(one.problem, one.best.plan) == one.best.prediction


def star() -> Problem:
    """Two equal workers at home, one far away that is faster, and a host without a device."""
    nodes = [
        Node(id="door", region="eu"),
        Node(id="a", device="chip", region="eu"),
        Node(id="b", device="chip", region="eu"),
        Node(id="far", device="fast", region="us"),
    ]
    ways = [
        link("region:eu", "region:eu", one_way_latency=0.002),
        link("region:eu", "region:us", one_way_latency=0.05),
        link("region:us", "region:eu", one_way_latency=0.05),
    ]
    chips = [device(memory=1e6), device("fast", memory=1e6, memory_bandwidth=400e9)]
    return problem(nodes, ways, chips, requirements=Requirements(objective="tpot"))


def test_swappable_seats_count_once_and_regions_fall_apart_first() -> None:
    world = seated(star(), ("door", "a", "b", "far"))
    assert seat_classes(world) == (("door",), ("a", "b"), ("far",))
    assert [one.cluster.coordinator for one in leaves(world)] == ["door", "a", "far"]
    assert [one.cluster.seats for one in narrower(world)] == [("door", "a", "b"), ("far",)]
    assert leaves(star()) == [star()]


def test_the_coordinator_sits_with_the_fastest_node_and_everything_follows_it() -> None:
    world = seated(star(), ("door", "a", "b", "far"))
    solution = solve(world)
    assert (solution.plan.coordinator, solution.plan.nodes) == ("far", ("far",))
    assert [one.node for one in solution.seats] == ["a", "door"]
    assert solution.seats[0].value == pytest.approx(solve(seated(star(), ("a",))).value)
    fixed = seated(star(), ("far",))
    metrics = simulate(world, solution.plan, 1).metrics
    assert metrics == simulate(fixed, solve(fixed).plan, 1).metrics
    assert metrics != simulate(star(), solution.plan, 1).metrics


@pytest.mark.parametrize("name", ["even", "memory", "tflops", "greedy", "petals", "fixed-order"])
def test_simpler_planners_choose_the_seat_that_is_best_for_them(name: Baseline) -> None:
    world = seated(star(), ("door", "a", "b", "far"))
    each = {one.cluster.coordinator: solve_simply(one, name) for one in leaves(world)}
    chosen = solve_simply(world, name)
    assert chosen.value == min(one.value for one in each.values())
    assert each[chosen.plan.coordinator or ""].value == chosen.value
    assert chosen.bound <= solve(world).value


def test_what_runs_keeps_its_coordinator_until_another_is_better() -> None:
    world = seated(star(), ("door", "a", "b", "far"))
    running = solve(seated(world, ("door", "a", "b"))).plan
    stays = solve(world, before=running, least_gain=1e9)
    assert (stays.plan.coordinator, stays.plan.nodes) == (running.coordinator, running.nodes)
    goes = solve(world, before=running, least_gain=0.0)
    assert goes.plan.coordinator == "far"


def test_prompts_are_shown_to_no_stranger_and_to_those_who_stay() -> None:
    nodes = [
        Node(id="stranger", device="chip", trust="unknown"),
        Node(id="spot", device="chip", trust="rented", churn="spot"),
        Node(id="own", device="chip", region="us"),
    ]
    assert trusted_seats(nodes, MustHave()) == ("own",)
    assert trusted_seats(nodes, MustHave(forbid_regions=("us",))) == ("spot",)
    assert trusted_seats(nodes, MustHave(regions=("home",), trust="own")) == ()
    assert trusted_seats(nodes, MustHave(trust="unknown")) == ("own",)
    door = Node(id="door")
    assert trusted_seats([door, *nodes], MustHave()) == ("door", "own")
    assert trusted_seats([door, *nodes], MustHave(), computing=True) == ("own",)
    assert seats_out([door, *nodes], MustHave(forbid_regions=("us",)), computing=True) == {
        "door": "no device for the draft",
        "stranger": "trust is unknown, asked is rented",
        "own": "region us is not allowed",
    }
    assert seats_out(nodes, MustHave())["spot"] == "comes and goes, others stay"


def test_where_the_coordinators_node_leaves_another_seat_goes_on() -> None:
    world = seated(star(), ("door", "a", "b", "far"))
    solution = solve(world)
    assert solution.fallback is not None
    assert solution.fallback.value == solution.seats[0].value
    assert solution.fallback_text == "if far leaves: a, coordinator a"
    alone = solve(seated(star(), ("far",)))
    assert alone.fallback_text.startswith("every layer sits with the coordinator")


def test_a_draft_takes_its_time_and_room_where_the_coordinator_sits() -> None:
    """Of two equal nodes the one with the draft holds fewer layers; the faster one drafts."""
    chips = [device(memory=4.2e5), device("fast", memory=4.2e5, memory_bandwidth=1e12)]
    nodes = [Node(id="a", device="chip"), Node(id="b", device="chip"), Node(id="c", device="fast")]
    world = problem(
        nodes,
        [link(one_way_latency=0.0)],
        chips,
        draft=model(id="small", num_hidden_layers=1),
        serving=Serving(speculation=Speculation(draft_tokens=4, acceptance=0.7)),
        requirements=Requirements(objective="tpot"),
    )
    free = seated(world, ("a", "b", "c"))
    each = {one.cluster.coordinator: solve(one) for one in leaves(free)}
    for name, one in each.items():
        assert not overfull(seated(world, (name,)), one.plan)
    solution = solve(free)
    assert solution.plan.coordinator == "c"
    assert solution.value == min(one.value for one in each.values())
    assert bounded(free) <= solution.value
    assert capacity_bytes(seated(world, ("a",)), "a") < capacity_bytes(free, "a")
